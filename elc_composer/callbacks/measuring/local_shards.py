"""Describes the part of each parameter that this rank holds, and its offset in the whole parameter.

Under FSDP1 (`use_orig_params`) a parameter is a 1-D slice, often empty; under FSDP2 a DTensor; otherwise it is whole
and the same on every rank. Statistics sum over the ranks' parts, count every element once and never gather a layer.
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
    """Elements that this rank counts; 0 if another rank counts the same elements."""

    def local(self) -> Tensor:
        """The elements that this rank counts, `[length]`, detached."""
        return _flat(self.parameter)[: self.length]

    def grad(self) -> Tensor | None:
        """The gradient of `local()`, `[length]`; None if there is none."""
        grad = self.parameter.grad
        return None if grad is None else _flat(grad)[: self.length]


def _flat(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).reshape(-1)


def _holders(parameter: Parameter, fsdp: FullyShardedDataParallel | None) -> list[int]:
    """Global ranks whose local parts, in this order, make up the whole parameter once."""
    if isinstance(parameter, DTensor):
        ranks = parameter.device_mesh.mesh
        for dim, placement in reversed(list(enumerate(parameter.placements))):
            if placement.is_replicate():
                ranks = ranks.select(dim, 0)
        return [int(rank) for rank in ranks.reshape(-1)]
    # `_fsdp_flattened` is the private mark that FSDP1 (torch 2.7) puts on parameters that it shards; there is no
    # public way to ask. Parameters in `ignored_states` lack it and stay whole.
    managed = fsdp is not None and getattr(parameter, "_fsdp_flattened", False)
    if fsdp is not None and managed and fsdp.sharding_strategy != ShardingStrategy.NO_SHARD:
        # Under hybrid sharding each group holds a replica; the first group counts.
        size = torch.distributed.get_world_size(fsdp.process_group)
        return list(range(size))
    return [0]


class Shards:
    """This rank's part of all parameters whose clean name passes `wanted`.

    Every rank must construct it at the same time: it communicates.
    """

    def __init__(self, model: Module, wanted: Callable[[str], bool] = lambda name: True) -> None:
        named = [(name, parameter) for name, parameter in model.named_parameters() if wanted(clean_name(name, model))]
        if any(name.split(".")[-1] == "_flat_param" for name, _ in model.named_parameters()):
            warnings.warn(
                "FSDP without use_orig_params replaces parameters by flat ones: set use_orig_params=True", stacklevel=3
            )
        wrapped = [
            (name, module) for name, module in model.named_modules() if isinstance(module, FullyShardedDataParallel)
        ]
        holders = []
        for name, parameter in named:
            # Modules are listed from the outside in, so that the last match is the innermost wrapper.
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
            # Without sharding all ranks hold the whole parameter and compute the same; nothing is reduced.
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
        """dtype of sums: float64, or float32 on MPS, which has no float64."""
        return torch.float32 if self.device.type == "mps" else torch.float64

    def reduce(self, tensor: Tensor, operation: str = "SUM") -> Tensor:
        """`tensor` summed (or MAX) over the ranks, in place; unchanged if parameters are whole."""
        if self.sharded:
            dist.all_reduce(tensor, reduce_operation=operation)
        return tensor

    def assemble(self) -> dict[str, list[float]]:
        """All parameters, assembled by one reduction of as many numbers as they have; only for small vectors."""
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
