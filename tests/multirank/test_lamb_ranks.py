"""LAMB over ranks: whatever holds which part of a parameter, the steps are those of one process.

Two launches of one job fill a folder with the results of many runs; each test reads its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.multirank.launch import launch

JOBS = Path(__file__).parent / "jobs"
pytestmark = pytest.mark.multirank


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("lamb")
    for ranks in (2, 1):
        launch(JOBS / "lamb_job.py", folder, n=ranks, timeout=500)
    return {path.stem: torch.load(path, weights_only=True) for path in folder.glob("*.pt")}


def deviation(run: dict[str, Any], reference: dict[str, Any]) -> float:
    params, expected = run["params"], reference["params"]
    assert params.keys() == expected.keys()
    worst = max(float((params[n] - expected[n]).abs().max() / expected[n].abs().max()) for n in params)
    print(f"largest relative deviation: {worst:.2e}")
    return worst


@pytest.mark.timeout(1100)
@pytest.mark.parametrize("name", ["ddp", "fsdp1", "fsdp2", "fsdp2_sharded"])
def test_two_ranks_step_like_one(runs: dict[str, dict[str, Any]], name: str):
    run = runs[name]
    assert run["wrapping"] == name.split("_")[0]
    assert (run["start"], run["step"]) == (0, 6)
    assert (run["smallest_part"] == 0) == (name != "ddp"), "under FSDP some rank holds nothing of some parameter"
    assert deviation(run, runs["one_rank"]) < 1e-5


def test_norms_of_local_parts_would_be_seen(runs: dict[str, dict[str, Any]]):
    assert deviation(runs["fsdp1_local_norms"], runs["one_rank"]) > 1e-3


@pytest.mark.parametrize(
    "name",
    [
        "ddp_to_fsdp2",
        "fsdp2_to_ddp",
        "fsdp1_to_fsdp1",
        "fsdp2_sharded_to_fsdp2",
        "ddp_to_one_rank",
        "fsdp2_to_one_rank",
        "fsdp2_sharded_to_one_rank",
    ],
)
def test_state_loads_across_shardings_and_world_sizes(runs: dict[str, dict[str, Any]], name: str):
    run = runs[name]
    assert (run["start"], run["step"]) == (3, 6)
    assert deviation(run, runs["one_rank"]) < 1e-5


@pytest.mark.timeout(600)
def test_hybrid_sharding_and_missing_gradients(tmp_path: Path):
    launch(JOBS / "lamb_hybrid_job.py", tmp_path / "out.pt", n=4, timeout=500)
    results = torch.load(tmp_path / "out.pt", weights_only=True)
    for name in ("fsdp1", "dtensor"):
        assert deviation({"params": results[name]}, {"params": results["plain"]}) < 1e-5
