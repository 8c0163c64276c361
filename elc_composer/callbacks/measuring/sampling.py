"""Samples the same elements of every parameter, however it is sharded."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from elc_composer.callbacks.measuring.local_shards import Shards


def spread(numel: int, count: int) -> Tensor:
    """`[min(count, numel)]` distinct flat indices in ascending order, evenly spaced over a tensor of `numel` elements.

    The step is about the golden section of `numel`; a plain stride would favour some rows or columns of a matrix.
    """
    if numel <= count:
        return torch.arange(numel)
    step = max(1, round(numel * (math.sqrt(5) - 1) / 2))
    while math.gcd(step, numel) != 1:
        step += 1
    # In int64: float64 would round the products of large tensors.
    return torch.sort(torch.arange(count, dtype=torch.int64) * step % numel).values


class Sample:
    """At most `count` elements of each parameter: their places on this rank, and the weight of each in estimates."""

    def __init__(self, shards: Shards, count: int) -> None:
        self.shards = shards
        self.sizes = [min(count, shard.numel) for shard in shards]
        stands_for = [shard.numel / size if size else 0.0 for shard, size in zip(shards, self.sizes)]
        self.stands_for = torch.tensor(stands_for, dtype=shards.wide, device=shards.device)
        self.total = sum(self.sizes)
        self._local, places, owners, start = [], [], [], 0
        for index, (shard, size) in enumerate(zip(shards, self.sizes)):
            chosen = spread(shard.numel, count) - shard.offset
            mine = (chosen >= 0) & (chosen < shard.length)
            self._local.append(chosen[mine].to(shards.device))
            places.append(start + mine.nonzero().flatten())
            owners.append(torch.full((int(mine.sum()),), index))
            start += size
        empty = [torch.empty(0, dtype=torch.int64)]
        self.places = torch.cat(places or empty).to(shards.device)
        self.owners = torch.cat(owners or empty).to(shards.device)

    def local(self, gradients: bool = False) -> Tensor:
        """This rank's sampled weights or gradients, `[len(places)]` float32; 0 if there is no gradient."""
        parts = []
        for shard, at in zip(self.shards, self._local):
            values = shard.grad() if gradients else shard.local()
            parts.append(values.index_select(0, at).float() if values is not None else at.new_zeros(len(at)).float())
        return torch.cat(parts) if parts else torch.empty(0, dtype=torch.float32, device=self.shards.device)

    def per_parameter(self, values: Tensor) -> Tensor:
        """Estimated sums `[parameters, k]` over this rank's part, from `values` `[len(places), k]` of the sample."""
        sums = torch.zeros(len(self.shards), values.shape[1], dtype=self.shards.wide, device=self.shards.device)
        return sums.index_add_(0, self.owners, values.to(self.shards.wide)) * self.stands_for[:, None]

    def assemble(self, values: Tensor) -> list[Tensor]:
        """All ranks' `values`, `[size]` per parameter on the CPU, by one reduction of `total` numbers."""
        buffer = torch.zeros(self.total, dtype=torch.float32, device=self.shards.device)
        buffer.index_copy_(0, self.places, values)
        return list(self.shards.reduce(buffer).cpu().split(self.sizes))
