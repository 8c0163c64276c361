"""Evaluation on minimal pairs on two ranks counts every pair once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.evaluation.tiny import tiny_bert, tiny_tokenizer, write_pairs
from tests.evaluation.training_helpers import expected
from tests.multirank.launch import launch

pytestmark = pytest.mark.multirank

CASES = {"odd": (1, "ddp"), "one": (100_000, "ddp"), "fsdp": (150, "fsdp")}
"""Tokens per batch and parallelism: nine families of pairs; or one batch, which leaves a rank without pairs."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Minimal pairs in `pairs`, and what two ranks logged in each case in `NAME.json`."""
    folder = tmp_path_factory.mktemp("ranks")
    pairs = write_pairs(folder / "pairs")
    cases = [f"{name}:{tokens}:{parallelism}" for name, (tokens, parallelism) in CASES.items()]
    launch(Path(__file__).parent / "jobs" / "in_training_job.py", pairs, folder, *cases)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_count_every_pair_once(folder: Path, case: str) -> None:
    result = json.loads((folder / f"{case}.json").read_text())
    assert sum(result["seen"]) == 10
    if case == "one":
        assert 0 in result["seen"]
    accuracies = expected(tiny_bert(len(tiny_tokenizer())), folder / "pairs")
    assert result["values"] == pytest.approx({f"metrics/tiny/{name}": value for name, value in accuracies.items()})
