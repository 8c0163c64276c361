"""Train a small model by LAMB through Composer's Trainer under every kind of sharding: `lamb_job.py FOLDER`.

Each run writes FOLDER/<name>.pt; tests/multirank/test_lamb_ranks.py compares them with one rank's.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from composer import ComposerModel, Trainer
from composer.algorithms import GradientClipping
from composer.utils import dist
from composer.utils.parallelism import FSDP2Config
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader

from elc_composer.common.process_group import join_process_group
from elc_composer.optim import OptimizerConfig, ScheduleConfig, build_optimizer, build_scheduler
from elc_composer.optim.parameter_groups import plain_name
from elc_composer.optim.placement import Placement
from tests.multirank.jobs.lamb_model import Words, gloo_sum_factor, loss_of, samples

GLOBAL_BATCH, STEPS, SAVED = 4, 6, 3


class Mirror(ComposerModel):
    def __init__(self, gradient_factor: float) -> None:
        super().__init__()
        self.model = Words()
        self.gradient_factor = gradient_factor

    def forward(self, batch: Tensor) -> Tensor:
        return self.model(batch)

    def loss(self, outputs: Tensor, batch: Tensor) -> Tensor:
        return loss_of(outputs, batch) / self.gradient_factor


def parallelism(name: str, state_dict_type: str) -> dict[str, Any] | None:
    if name == "fsdp1":
        settings = {"sharding_strategy": "FULL_SHARD", "mixed_precision": "PURE", "state_dict_type": state_dict_type}
        return {"fsdp": settings}
    return {"fsdp": FSDP2Config(state_dict_type=state_dict_type)} if name == "fsdp2" else None


def wrapping(model: torch.nn.Module) -> str:
    """Which kind of sharding Composer really chose."""
    modules = list(model.modules())
    if any(isinstance(module, FSDPModule) for module in modules):
        return "fsdp2"
    if any(isinstance(module, FSDP) for module in modules):
        return "fsdp1"
    return "ddp" if any(isinstance(m, torch.nn.parallel.DistributedDataParallel) for m in modules) else "none"


def full_parameters(model: torch.nn.Module) -> dict[str, Tensor]:
    with FSDP.summon_full_params(model, writeback=False):
        return {
            plain_name(name): (param.full_tensor() if isinstance(param, DTensor) else param).detach().clone()
            for name, param in model.named_parameters()
        }


def train(
    name: str, state_dict_type: str = "full", save: Path | None = None, load: Path | None = None
) -> dict[str, Any]:
    """Train to the last step, from the start or from `load`; returns what this rank saw."""
    factor = gloo_sum_factor() if name == "fsdp2" else 1.0
    model = Mirror(factor)
    optimizer = build_optimizer(model, OptimizerConfig(lr=0.1))
    data = samples(GLOBAL_BATCH * STEPS)
    loader = DataLoader(
        data, batch_size=GLOBAL_BATCH // dist.get_world_size(), sampler=dist.get_sampler(data, shuffle=False)
    )
    trainer = Trainer(
        model=model,
        train_dataloader=loader,
        optimizers=optimizer,
        schedulers=build_scheduler(ScheduleConfig(warmup_steps=1), optimizer, STEPS),
        step_schedulers_every_batch=True,
        algorithms=[GradientClipping(clipping_type="norm", clipping_threshold=0.5)],
        max_duration=f"{STEPS}ba",
        parallelism_config=parallelism(name, state_dict_type),
        precision="fp32",
        progress_bar=False,
        save_folder=None if save is None else str(save),
        save_interval=f"{SAVED}ba",
        load_path=None if load is None else str(load),
        run_name="lamb",
    )
    start = int(trainer.state.timestamp.batch)
    trainer.fit()
    parts = [p.to_local() if isinstance(p, DTensor) else p for p in trainer.state.model.parameters()]
    result = {
        "params": full_parameters(trainer.state.model),
        "wrapping": wrapping(trainer.state.model),
        "smallest_part": min(dist.all_gather_object(min(part.numel() for part in parts))),
        "start": start,
        "step": max(float(state["step"]) for state in optimizer.state.values()),
    }
    trainer.close()
    return result


def main() -> None:
    folder = Path(sys.argv[1])
    join_process_group("cpu")

    def run(label: str, *args: Any, **arguments: Any) -> None:
        result = train(*args, **arguments)
        if dist.get_global_rank() == 0:
            torch.save(result, folder / f"{label}.pt")
        dist.barrier()

    full, sharded = f"ep0-ba{SAVED}-rank0.pt", f"ep0-ba{SAVED}"
    if dist.get_world_size() == 1:
        run("one_rank", "none")
        run("ddp_to_one_rank", "none", load=folder / "ddp" / full)
        run("fsdp2_to_one_rank", "none", load=folder / "fsdp2" / full)
        run("fsdp2_sharded_to_one_rank", "fsdp2", "sharded", load=folder / "fsdp2_sharded" / sharded)
        return
    run("ddp", "ddp", save=folder / "ddp")
    run("fsdp1", "fsdp1", "sharded", save=folder / "fsdp1")
    run("fsdp2", "fsdp2", save=folder / "fsdp2")
    run("fsdp2_sharded", "fsdp2", "sharded", save=folder / "fsdp2_sharded")
    with mock.patch("elc_composer.optim.lamb.placement_of", return_value=Placement()):
        run("fsdp1_local_norms", "fsdp1", "sharded")
    run("ddp_to_fsdp2", "fsdp2", load=folder / "ddp" / full)
    run("fsdp2_to_ddp", "ddp", load=folder / "fsdp2" / full)
    run("fsdp1_to_fsdp1", "fsdp1", "sharded", load=folder / "fsdp1" / sharded)
    run("fsdp2_sharded_to_fsdp2", "fsdp2", "sharded", load=folder / "fsdp2_sharded" / sharded)


if __name__ == "__main__":
    # FSDP1 asks for the current CUDA device even on CPU.
    with mock.patch("torch.cuda.current_device", return_value=torch.device("cpu")):
        main()
