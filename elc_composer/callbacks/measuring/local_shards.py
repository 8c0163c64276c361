"""The part of each parameter that this rank holds, and where it lies in the whole.

Under FSDP1 (`use_orig_params`) a parameter is a 1-D slice, often empty; under FSDP2 a DTensor; elsewhere it is whole
and the same on every rank. Statistics add up what the ranks hold, counting every element once, and never assemble a
layer.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from composer.utils import dist
from torch import Tensor
from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy
from torch.distributed.tensor import DTensor
from torch.nn import Module, Parameter

from elc_composer.common.module_names import clean_name


@dataclass(eq=False)
class Shard:
    """This rank's part of one parameter: `local()` is the slice `[offset, offset + length)` of the flattened whole."""

    name: str
    parameter: Parameter
    numel: int
    """Elements of the whole parameter."""
    offset: int
    length: int
    """Elements that this rank speaks for; 0 where another rank holds the same ones."""

    def local(self) -> Tensor:
        """The elements that this rank speaks for, `[length]`, detached."""
        return _flat(self.parameter)[: self.length]

    def grad(self) -> Tensor | None:
        """Their gradient, `[length]`; None where there is none."""
        grad = self.parameter.grad
        return None if grad is None else _flat(grad)[: self.length]


def _flat(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).reshape(-1)


def _holders(parameter: Parameter, fsdp: FullyShardedDataParallel | None) -> list[int]:
    """Global ranks whose local parts, in this order, are the whole parameter once."""
    if isinstance(parameter, DTensor):
        ranks = parameter.device_mesh.mesh
        for dim, placement in reversed(list(enumerate(parameter.placements))):
            if placement.is_replicate():
                ranks = ranks.select(dim, 0)
        return [int(rank) for rank in ranks.reshape(-1)]
    # FSDP1 marks what it manages, and has no public way to ask; parameters that it was told to ignore stay whole
    managed = fsdp is not None and getattr(parameter, "_fsdp_flattened", False)
    if fsdp is not None and managed and fsdp.sharding_strategy != ShardingStrategy.NO_SHARD:
        # under hybrid sharding each group holds a replica: the first rank's group speaks
        size = torch.distributed.get_world_size(fsdp.process_group)
        return list(range(size))
    return [0]


class Shards:
    """All parameters of a model whose clean name passes `wanted`, as this rank holds them.

    Collective where there are several ranks: every rank must build it at the same time.
    """

    def __init__(self, model: Module, wanted: Callable[[str], bool] = lambda name: True) -> None:
        named = [(name, parameter) for name, parameter in model.named_parameters() if wanted(clean_name(name, model))]
        if any(name.split(".")[-1] == "_flat_param" for name, _ in model.named_parameters()):
            warnings.warn(
                "FSDP without use_orig_params hides parameters in flat ones: set use_orig_params=True", stacklevel=3
            )
        wrapped = [
            (name, module) for name, module in model.named_modules() if isinstance(module, FullyShardedDataParallel)
        ]
        holders = []
        for name, parameter in named:
            # names are listed from the outside in, so the last match is the innermost wrapper
            inside = [module for prefix, module in wrapped if not prefix or name.startswith(prefix + ".")]
            holders.append(_holders(parameter, inside[-1] if inside else None))
        self.sharded = dist.get_world_size() > 1 and any(len(ranks) > 1 for ranks in holders)
        self.device = named[0][1].device if named else torch.device("cpu")
        lengths = torch.tensor(
            [_flat(parameter).numel() for _, parameter in named], dtype=torch.int64, device=self.device
        )
        everywhere = torch.stack(list(dist.all_gather(lengths))).tolist() if self.sharded else None
        rank = dist.get_global_rank()
        self.shards = []
        for index, ((name, parameter), ranks) in enumerate(zip(named, holders)):
            held = [everywhere[r][index] if everywhere else int(lengths[index]) for r in ranks]
            # without sharding all ranks hold the whole and compute the same: no rank is silent, nothing is reduced
            place = ranks.index(rank) if rank in ranks else (None if self.sharded else 0)
            self.shards.append(
                Shard(
                    name=clean_name(name, model),
                    parameter=parameter,
                    numel=sum(held),
                    offset=0 if place is None else sum(held[:place]),
                    length=0 if place is None else held[place],
                )
            )

    def __len__(self) -> int:
        return len(self.shards)

    def __iter__(self):
        return iter(self.shards)

    @property
    def wide(self) -> torch.dtype:
        """The dtype in which sums are kept: float64, or float32 on devices that have no other."""
        return torch.float32 if self.device.type == "mps" else torch.float64

    def reduce(self, tensor: Tensor, operation: str = "SUM") -> Tensor:
        """`tensor` summed (or MAX) over the ranks, in place; nothing to do where parameters are whole."""
        if self.sharded:
            dist.all_reduce(tensor, reduce_operation=operation)
        return tensor

    def assemble(self) -> dict[str, list[float]]:
        """All parameters whole: one reduction of as many numbers as they have. For vectors of layer weights only."""
        buffer = torch.zeros(sum(shard.numel for shard in self), dtype=self.wide, device=self.device)
        start = 0
        for shard in self:
            buffer[start + shard.offset : start + shard.offset + shard.length] = shard.local().to(self.wide)
            start += shard.numel
        values = self.reduce(buffer).tolist()
        found, start = {}, 0
        for shard in self:
            found[shard.name] = values[start : start + shard.numel]
            start += shard.numel
        return found
