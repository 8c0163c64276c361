"""LAMB on four ranks against the plain form, in less usual shardings: `lamb_hybrid_job.py OUT.pt`. Torch alone.

FSDP1 with two replicas of two shards; and DTensors of every placement over that mesh, fed with whole gradients, since
gloo lacks the averaging that FSDP2 needs for replicas.
"""

from __future__ import annotations

import sys
from itertools import cycle
from unittest import mock

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP
from torch.distributed.fsdp import ShardingStrategy
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from elc_composer.optim import Lamb, parameter_groups
from elc_composer.optim.parameter_groups import plain_name
from tests.multirank.jobs.lamb_model import Block, Words, loss_of, samples
from tests.optim.plain_lamb import PlainLamb

STEPS, WITHOUT_GAIN = 6, (0, 3)
PLACEMENTS = [(Replicate(), Shard(0)), (Shard(0), Shard(0)), (Shard(0), Replicate()), (Replicate(), Replicate())]


def backward(model: nn.Module, step: int) -> None:
    """Fill the gradients of one batch; at some steps one kind of parameter gets none."""
    model.zero_grad()
    ids = samples(4 * STEPS)[4 * step : 4 * step + 4]
    loss_of(model(ids), ids).backward()
    for name, param in model.named_parameters():
        if step in WITHOUT_GAIN and name.endswith("gain"):
            param.grad = None


def main() -> None:
    dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard"))

    whole, pieces = Words(), nn.ParameterList()
    for param, placement in zip(whole.parameters(), cycle(PLACEMENTS)):
        # Cloned, since a replicated DTensor shares the memory it was made from.
        pieces.append(nn.Parameter(distribute_tensor(param.detach().clone(), mesh, placement)))
    position = {id(param): i for i, param in enumerate(whole.parameters())}
    groups = parameter_groups(whole, 0.1)
    plain = PlainLamb(groups, lr=0.1)
    pieces_of = [{**group, "params": [pieces[position[id(p)]] for p in group["params"]]} for group in groups]
    cut = Lamb(pieces_of, lr=0.1)
    for step in range(STEPS):
        backward(whole, step)
        for i, (piece, param) in enumerate(zip(pieces, whole.parameters())):
            # Some gradients arrive in another placement than their parameter's.
            placement = PLACEMENTS[-1] if i % 5 == 0 else piece.placements
            piece.grad = None if param.grad is None else distribute_tensor(param.grad, mesh, placement)
        plain.step()
        cut.step()

    hybrid = FSDP(
        Words(),
        auto_wrap_policy=ModuleWrapPolicy({Block}),
        sharding_strategy=ShardingStrategy.HYBRID_SHARD,
        device_mesh=mesh,
        use_orig_params=True,
        device_id=torch.device("cpu"),
    )
    optimizer = Lamb(parameter_groups(hybrid, 0.1), lr=0.1)
    for step in range(STEPS):
        backward(hybrid, step)
        optimizer.step()

    def named(values: list[Tensor]) -> dict[str, Tensor]:
        full = [value.full_tensor() if isinstance(value, DTensor) else value for value in values]
        return {name: value.detach().clone() for (name, _), value in zip(whole.named_parameters(), full)}

    results = {"plain": named(list(whole.parameters())), "dtensor": named(list(pieces))}
    with FSDP.summon_full_params(hybrid, writeback=False):
        results["fsdp1"] = {plain_name(name): param.detach().clone() for name, param in hybrid.named_parameters()}
    if dist.get_rank() == 0:
        torch.save(results, sys.argv[1])
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    # FSDP1 asks for the current CUDA device even on CPU.
    with mock.patch("torch.cuda.current_device", return_value=torch.device("cpu")):
        main()
