"""Runs the golden thirty steps over ranks, microbatches and shardings: `recipe_job.py GOLDEN FOLDER VARIANT...`.

Each run writes FOLDER/<variant>_<name>.pt; tests/multirank/test_recipe_ranks.py compares them with the published run.
"""

from __future__ import annotations

import sys
from pathlib import Path
from unittest import mock

import torch
from composer.utils import dist

from elc_composer.common.process_group import join_process_group
from elc_composer.training.parallelism import ParallelismConfig, Strategy, composer_parallelism
from tests.multirank.jobs.lamb_job import full_parameters, wrapping
from tests.multirank.jobs.lamb_model import gloo_sum_factor
from tests.recipe import run_recipe

# FSDP1's own gradient clipping takes no float64.
DTYPES = {Strategy.fsdp1: torch.float32}
RUNS = {1: [("whole", Strategy.ddp, 1), ("accumulated", Strategy.ddp, 4)]}
RUNS[2] = [("ddp", Strategy.ddp, 2), ("fsdp1", Strategy.fsdp1, 2), ("fsdp2", Strategy.fsdp2, 2)]


def main(golden: Path, folder: Path, variants: list[str]) -> None:
    torch.set_num_threads(1)
    join_process_group("cpu")
    for variant in variants:
        for name, strategy, microbatches in RUNS[dist.get_world_size()]:
            factor = gloo_sum_factor() if strategy is Strategy.fsdp2 else 1.0
            trainer, recorder, _ = run_recipe(
                golden,
                variant,
                DTYPES.get(strategy, torch.float64),
                microbatches,
                gradient_factor=factor,
                parallelism_config=composer_parallelism(ParallelismConfig(strategy)),
            )
            result = {
                "loss": recorder.losses,
                "params": full_parameters(trainer.state.model),
                "wrapping": wrapping(trainer.state.model),
            }
            if dist.get_global_rank() == 0:
                torch.save(result, folder / f"{variant}_{name}.pt")
            trainer.close()


if __name__ == "__main__":
    # FSDP1 asks for the current CUDA device even on CPU.
    with mock.patch("torch.cuda.current_device", return_value=torch.device("cpu")):
        main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
