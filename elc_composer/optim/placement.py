"""Placement of sharded parameters: the part on this rank, and sums over the ranks that hold the other parts.

An optimizer sees three kinds of parameters:

- whole ones (one process, DDP);
- FSDP2's `DTensor`, whose mesh and placements are public;
- FSDP1's flat 1-D slices (`use_orig_params=True`), often empty. Torch 2.7 has no public test for them; this module
  reads the attribute `_fsdp_flattened`, which FSDP1 sets, and no other private one. The process group that shards them
  is not needed: a sum over *all* ranks counts every element equally often (once with full sharding, once per replica
  with hybrid sharding), and that factor cancels in the quotient of two norms.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.fsdp import FlatParameter
from torch.distributed.tensor import DTensor

from elc_composer.common.errors import ConfigError


@dataclass(frozen=True)
class Placement:
    """Process groups to sum local squared norms over (None: the default group); empty for a whole parameter."""

    groups: tuple[dist.ProcessGroup | None, ...] = ()


def placement_of(param: Tensor) -> Placement:
    """Placement of a parameter.

    Raises:
        ConfigError: FSDP1's flat concatenation of many parameters, or a DTensor with a partial placement.
    """
    if isinstance(param, DTensor):
        mesh = param.device_mesh
        for dim, placement in enumerate(param.placements):
            if placement.is_partial():
                raise ConfigError(
                    f"LAMB cannot step a DTensor with placement {placement} over mesh dimension {dim}; reduce it first"
                )
        return Placement(
            tuple(
                mesh.get_group(dim)
                for dim, placement in enumerate(param.placements)
                if placement.is_shard() and mesh.size(dim) > 1
            )
        )
    if isinstance(param, FlatParameter):
        raise ConfigError("LAMB needs each parameter's own norm: wrap the model with FSDP(use_orig_params=True)")
    distributed = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    if distributed and getattr(param, "_fsdp_flattened", False):
        return Placement((None,))
    return Placement()


def local_part(tensor: Tensor) -> Tensor:
    """The local part of a DTensor, without a copy; any other tensor itself."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def local_gradient(param: Tensor) -> Tensor | None:
    """The gradient of this rank's part of `param`; None if there is none."""
    grad = param.grad
    if isinstance(grad, DTensor) and isinstance(param, DTensor) and grad.placements != param.placements:
        grad = grad.redistribute(param.device_mesh, param.placements)
    return None if grad is None else local_part(grad)


def sum_over_ranks(values: list[Tensor], placements: list[Placement]) -> list[Tensor]:
    """Sum each value over the groups of its placement, with one all-reduce per distinct group (usually one in all).

    Collective: every rank must pass values for the same parameters in the same order.

    Args:
        values: one tensor a parameter, all of one shape.
        placements: of each parameter.
    """
    result = list(values)
    for group in dict.fromkeys(group for placement in placements for group in placement.groups):
        members = [i for i, placement in enumerate(placements) if group in placement.groups]
        dtype = torch.float32
        for i in members:
            dtype = torch.promote_types(dtype, result[i].dtype)
        batch = torch.stack([result[i].to(dtype) for i in members])
        dist.all_reduce(batch, group=group)
        for i, value in zip(members, batch.unbind()):
            result[i] = value
    return result
