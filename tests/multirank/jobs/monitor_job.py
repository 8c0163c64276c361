"""Train a small ELC-BERT with all monitors and write what each rank logged: see test_monitor_ranks.py.

python monitor_job.py OUT_FOLDER --parallelism none|ddp|fsdp1|fsdp2 [--checkpointing] [--microbatch N] [--sampled]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from composer.utils import FSDP2Config, dist
from torch import nn

from elc_composer.callbacks import LayerWeightMonitor, MixedInputMonitor, StepMetrics, WeightDistributionMonitor
from elc_composer.common.process_group import join_process_group
from elc_composer.model.encoder import ElcLayer
from tests.callbacks.toys import ToyElc, logged, trainer
from tests.multirank.jobs.lamb_model import gloo_sum_factor

STEPS = 5
# reentrant recomputation, the default, breaks under FSDP1 when a layer reads a tuple of states
FLAT = {"sharding_strategy": "FULL_SHARD", "activation_checkpointing_reentrant": False}


def parallelism(name: str, checkpointing: bool) -> dict[str, Any] | None:
    if name == "fsdp1":
        return {"fsdp": {"activation_checkpointing": checkpointing, **FLAT}}
    if name == "fsdp2":
        return {"fsdp": FSDP2Config(activation_checkpointing=checkpointing)}
    return None


class Wrapped(ToyElc):
    """One layer a unit of sharding and of recomputation."""

    def __init__(self, gradient_factor: float) -> None:
        super().__init__(gradient_factor=gradient_factor)

        def is_layer(module: nn.Module) -> bool:
            return isinstance(module, ElcLayer)

        self.model.fsdp_wrap_fn = is_layer  # type: ignore[assignment]
        self.model.activation_checkpointing_fn = is_layer  # type: ignore[assignment]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--parallelism", default="none")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--microbatch", type=int)
    parser.add_argument("--sampled", action="store_true")
    args = parser.parse_args()
    join_process_group("cpu")
    model = Wrapped(gloo_sum_factor() if args.parallelism == "fsdp2" else 1.0)
    folder = str(args.out)
    monitors = [
        LayerWeightMonitor(interval="2ba", folder=folder),
        # smaller than the matrices, larger than the vectors
        WeightDistributionMonitor(interval="2ba", folder=folder, sample_size=100, exact=not args.sampled),
        MixedInputMonitor(interval="2ba", folder=folder),
    ]
    run = trainer(
        model,
        [StepMetrics(), *monitors],
        steps=STEPS,
        parallelism_config=parallelism(args.parallelism, args.checkpointing),
        device_train_microbatch_size=args.microbatch or 8 // dist.get_world_size(),
    )
    run.fit()
    held = {shard.name: shard.length for shard in monitors[0]._shards}
    kinds = sorted({type(shard.parameter).__name__ for shard in monitors[0]._shards})
    everything: dict[str, Any] = {"held": held, "kinds": kinds, "metrics": {}}
    for prefix in ("layer_weights/", "weight_distribution/", "mixed_input/", "metrics/train/", "data/"):
        everything["metrics"].update(logged(run, prefix))
    (args.out / f"rank{dist.get_global_rank()}.json").write_text(json.dumps(everything))
    run.close()


if __name__ == "__main__":
    with mock.patch("torch.cuda.current_device", return_value=torch.device("cpu")):
        main()
