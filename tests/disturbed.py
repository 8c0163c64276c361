"""Settings and faults of runs that are killed: tests/multirank/jobs/disturbed_job.py takes the faults."""

from __future__ import annotations

from typing import Any

from tests.conftest import ROOT

CONFIG = ROOT / "yamls" / "quickstart.yaml"
QUIET = {
    "checkpoints__keep": -1,
    "evaluators__eval_interval": "100ba",
    "callbacks__minimal_pair_plot": False,
    "callbacks__layer_weight_monitor": "null",
}
SHARDED = {"parallelism__strategy": "fsdp2", "parallelism__sharded_checkpoints": True}


def fault(step: int, at: str, do: str, rank: int = 0) -> dict[str, Any]:
    return {"step": step, "at": at, "do": do, "rank": rank}
