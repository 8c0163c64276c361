"""Monitors give the figures of one device under DDP, FSDP1 and FSDP2, on every rank."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .launch import launch

JOB = Path(__file__).parent / "jobs" / "monitor_job.py"
SETTINGS = {"exact": [], "sampled": ["--sampled"]}


def run(folder: Path, n: int, *args: object) -> list[dict[str, Any]]:
    folder.mkdir()
    launch(JOB, folder, *args, n=n)
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(n)]


@pytest.fixture(scope="module", params=SETTINGS.values(), ids=SETTINGS)
def alone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, Any]]:
    """Settings, and the figures of one process."""
    return request.param, run(tmp_path_factory.mktemp("alone") / "run", 1, *request.param)[0]["metrics"]


@pytest.mark.multirank
@pytest.mark.slow
@pytest.mark.parametrize(
    "parallelism",
    [
        ["ddp"],
        ["ddp", "--microbatch", 2],
        ["fsdp1"],
        ["fsdp1", "--checkpointing"],
        ["fsdp2"],
        ["fsdp2", "--checkpointing"],
    ],
    ids=lambda options: "-".join(str(option).strip("-") for option in options),
)
def test_two_ranks_log_what_one_does(
    parallelism: list[object], alone: tuple[list[str], dict[str, Any]], tmp_path: Path
) -> None:
    settings, expected = alone
    ranks = run(tmp_path / "run", 2, "--parallelism", *parallelism, *settings)
    for found in ranks:
        assert set(found["metrics"]) == set(expected)
        for name, points in expected.items():
            # quantiles jump from one element to the next, so rounding moves them further
            tolerance = {"abs": 1e-5, "rel": 1e-4}
            assert found["metrics"][name] == pytest.approx(points, **tolerance), name
    held = [found["held"] for found in ranks]
    if parallelism[0] == "ddp":
        assert held[0] == held[1]
    else:
        assert {name: held[0][name] + held[1][name] for name in held[0]} == {
            **{f"model.transformer.layers.{i}.prev_layer_weights": i + 1 for i in range(3)},
            "model.transformer.prev_layer_weights": 4,
        }
        assert any(length == 0 for rank in held for length in rank.values()), "a rank that holds nothing of a vector"


@pytest.mark.multirank
def test_two_ranks_write_one_set_of_files(tmp_path: Path) -> None:
    run(tmp_path / "run", 2, "--parallelism", "fsdp2")
    names = {path.name for path in (tmp_path / "run").iterdir()} - {"rank0.json", "rank1.json"}
    pictures = {"layer_weights.png", "layer_weights_over_time.png", "mixed_inputs.png"}
    assert names == pictures | {"layer_weights.jsonl", "mixed_inputs.jsonl", "weight_histograms.jsonl"}
    lines = (tmp_path / "run" / "layer_weights.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 2, 4, 5]
