"""Evaluation on minimal pairs on two ranks counts every pair once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.evaluation.tiny import tiny_bert, tiny_tokenizer, write_pairs
from tests.evaluation.training_helpers import expected
from tests.multirank.launch import launch

pytestmark = pytest.mark.multirank


@pytest.mark.parametrize(
    ("tokens_per_batch", "parallelism"), [(1, "ddp"), (100_000, "ddp"), (150, "fsdp")], ids=["odd", "one", "fsdp"]
)
def test_two_ranks_count_every_pair_once(tmp_path: Path, tokens_per_batch: int, parallelism: str) -> None:
    """Nine families of pairs for two ranks; or one batch, which leaves a rank without any."""
    folder = write_pairs(tmp_path / "pairs")
    out = tmp_path / "out.json"
    launch(Path(__file__).parent / "jobs" / "in_training_job.py", folder, tokens_per_batch, parallelism, out)
    result = json.loads(out.read_text())
    assert sum(result["seen"]) == 10
    if tokens_per_batch == 100_000:
        assert 0 in result["seen"]
    want = {f"metrics/tiny/{name}": value for name, value in expected(tiny_bert(len(tiny_tokenizer())), folder).items()}
    assert result["values"] == pytest.approx(want)
