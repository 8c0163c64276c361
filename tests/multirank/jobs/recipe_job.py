"""Runs the golden thirty steps in float64 on this rank; rank 0 saves losses and final parameters."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from composer.utils import dist

from tests.recipe import run_recipe

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--variant", default="base")
    parser.add_argument("--microbatches", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    trainer, recorder, _ = run_recipe(options.path, options.variant, torch.float64, options.microbatches)
    if dist.get_global_rank() == 0:
        model = getattr(trainer.state.model, "module", trainer.state.model)
        torch.save({"loss": recorder.losses, "state": dict(model.model.state_dict())}, options.out)
