"""Monitors give the figures of one device under DDP, FSDP1 and FSDP2, on every rank."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.multirank.launch import launch

JOB = Path(__file__).parent / "jobs" / "monitor_job.py"
CASES = [
    ["ddp"],
    ["ddp", "--microbatch", "2"],
    ["fsdp1", "--checkpointing"],
    ["fsdp1", "--sampled"],
    ["fsdp2", "--checkpointing"],
    ["fsdp2", "--sampled"],
    ["fsdp2", "--microbatch", "2"],
]
FILES = {"layer_weights.jsonl", "mixed_inputs.jsonl", "weight_histograms.jsonl"}
PICTURES = {"layer_weights.png", "layer_weights_over_time.png", "mixed_inputs.png"}


def run(folder: Path, n: int, *args: str) -> list[dict[str, Any]]:
    folder.mkdir()
    launch(JOB, folder, *args, n=n)
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(n)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, dict[str, Any]]:
    """The figures of one process, from all elements and from a sample."""
    folder = tmp_path_factory.mktemp("alone")
    return {
        False: run(folder / "exact", 1)[0]["metrics"],
        True: run(folder / "sampled", 1, "--sampled")[0]["metrics"],
    }


@pytest.mark.multirank
@pytest.mark.parametrize("options", CASES, ids=lambda options: "".join(options))
def test_two_ranks_log_what_one_does(options: list[str], alone: dict[bool, dict[str, Any]], tmp_path: Path) -> None:
    expected = alone["--sampled" in options]
    ranks = run(tmp_path / "run", 2, "--parallelism", *options)
    for found in ranks:
        assert set(found["metrics"]) == set(expected)
        for name, points in expected.items():
            assert found["metrics"][name] == pytest.approx(points, rel=1e-4, abs=1e-5), name
    held = [found["held"] for found in ranks]
    if options[0] == "ddp":
        assert held[0] == held[1]
    else:
        whole = {f"model.transformer.layers.{i}.prev_layer_weights": i + 1 for i in range(3)}
        whole["model.transformer.prev_layer_weights"] = 4
        assert {name: held[0][name] + held[1][name] for name in held[0]} == whole
        assert any(length == 0 for rank in held for length in rank.values()), "no rank was without some vector"
    assert ranks[0]["kinds"] == (["DTensor"] if options[0] == "fsdp2" else ["Parameter"])
    written = {path.name for path in (tmp_path / "run").iterdir()} - {"rank0.json", "rank1.json"}
    assert written == FILES | PICTURES, "one set of files, of rank 0"
    lines = (tmp_path / "run" / "layer_weights.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 2, 4, 5]
