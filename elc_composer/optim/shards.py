"""Which part of a parameter this rank holds, and over which process groups its parts add up to the whole.

Three kinds of parameters meet an optimizer:

- whole ones (one process, DDP);
- FSDP2's `DTensor`: mesh and placements are public and say everything;
- FSDP1 with `use_orig_params=True`: flat 1-D slices, often empty. Torch has no public way to ask a parameter whether
  it is one. FSDP1 marks them with the attribute `_fsdp_flattened`, which is read here, and nothing else private is.
  Which process group cut them need not be known: sums over *all* ranks count every element equally often (once with
  full sharding, once a replica with hybrid sharding), and that factor cancels in the quotient of two norms.
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
    """Process groups over which local squared norms add up (None: the default group); none for a whole parameter."""

    groups: tuple[dist.ProcessGroup | None, ...] = ()


def placement_of(param: Tensor) -> Placement:
    """How `param` is cut over ranks.

    Raises:
        ConfigError: the parameter is FSDP1's flat concatenation of many, or a DTensor of pending sums.
    """
    if isinstance(param, DTensor):
        mesh = param.device_mesh
        for dim, placement in enumerate(param.placements):
            if placement.is_partial():
                raise ConfigError(
                    f"LAMB cannot step a DTensor that is {placement} over mesh dimension {dim}: reduce it first"
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
    """The part on this rank, sharing its memory; the tensor itself unless it is a DTensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def local_gradient(param: Tensor) -> Tensor | None:
    """The gradient's part that belongs to this rank's part of `param`; None where there is none."""
    grad = param.grad
    if isinstance(grad, DTensor) and isinstance(param, DTensor) and grad.placements != param.placements:
        grad = grad.redistribute(param.device_mesh, param.placements)
    return None if grad is None else local_part(grad)


def sum_over_ranks(values: list[Tensor], placements: list[Placement]) -> list[Tensor]:
    """Sums of each value over its placement's groups: one all-reduce for each distinct group (usually one in all).

    Every rank must call this with values for the same parameters in the same order.

    Args:
        values: one tensor a parameter, all of one shape.
        placements: where each parameter's parts lie.
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
