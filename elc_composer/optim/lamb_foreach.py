"""One LAMB step of many parameters, whole or sharded: few kernels, at most one all-reduce per process group.

With c = (1 - beta1^t) / sqrt(1 - beta2^t), the Adam direction is (m / (sqrt(v) + eps * sqrt(1 - beta2^t))) / c. Working
with c times the update, and dividing its norm by c, saves one pass over memory for each bias correction.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field

import torch
from torch import Tensor

from elc_composer.optim.placement import Placement, sum_over_ranks


@dataclass(frozen=True)
class LambSettings:
    """Settings of one step of one parameter group; see `Lamb`."""

    lr: float
    beta1: float
    beta2: float
    eps: float
    weight_decay: float


@dataclass
class Part:
    """This rank's part of one parameter, and its optimizer state.

    `grad` is None if this rank has no gradient but others may have one: the part then only adds to the parameter's
    norm.
    """

    param: Tensor
    grad: Tensor | None
    settings: LambSettings
    placement: Placement
    state: dict[str, Tensor] = field(default_factory=dict)
    squared_norms: Tensor | None = None
    """[2]: sums of squares of parameter and update, first of this part, then of the whole; sharded parts only."""


@dataclass
class _Bucket:
    """Parts that one multi-tensor kernel can step: equal settings, device, dtype and step count."""

    parts: list[Part]
    settings: LambSettings
    step: float
    scaled_updates: list[Tensor] = field(default_factory=list)
    norms: Tensor | None = None

    @property
    def params(self) -> list[Tensor]:
        return [part.param for part in self.parts]

    @property
    def scale(self) -> float:
        """Factor between `scaled_updates` and the updates: c of the module's docstring."""
        return (1 - self.settings.beta1**self.step) / math.sqrt(1 - self.settings.beta2**self.step)

    def update_moments(self) -> None:
        """Update the running means; then step parameters without weight decay, or compute the updates of the others."""
        settings = self.settings
        grads = [part.grad for part in self.parts if part.grad is not None]
        means = [part.state["exp_avg"] for part in self.parts]
        squares = [part.state["exp_avg_sq"] for part in self.parts]
        torch._foreach_lerp_(means, grads, 1 - settings.beta1)
        torch._foreach_mul_(squares, settings.beta2)
        torch._foreach_addcmul_(squares, grads, grads, value=1 - settings.beta2)
        denominators = torch._foreach_sqrt(squares)
        torch._foreach_add_(denominators, settings.eps * math.sqrt(1 - settings.beta2**self.step))
        if settings.weight_decay == 0:
            torch._foreach_addcdiv_(self.params, means, denominators, value=-settings.lr / self.scale)
            return
        updates = torch._foreach_div(means, denominators)
        torch._foreach_add_(updates, self.params, alpha=settings.weight_decay * self.scale)
        self.scaled_updates = list(updates)
        self.norms = torch.stack([_norms(self.params), _norms(self.scaled_updates) / self.scale])

    def share_norms(self) -> None:
        """Give each sharded part its squared norms, so that they can be summed over ranks."""
        if self.norms is not None:
            for part, squared in zip(self.parts, self.norms.square().unbind(1)):
                if part.placement.groups:
                    part.squared_norms = squared

    def apply(self) -> None:
        """Step the parameters with weight decay, each scaled by its trust ratio."""
        if self.norms is None:
            return
        norms = self.norms
        if any(part.squared_norms is not None for part in self.parts):
            columns = [
                own if part.squared_norms is None else part.squared_norms.sqrt()
                for part, own in zip(self.parts, norms.unbind(1))
            ]
            norms = torch.stack(columns, dim=1)
        param_norms, update_norms = norms
        measurable = (param_norms > 0) & (update_norms > 0)
        ratios = torch.where(measurable, param_norms / update_norms, 1.0).to(self.parts[0].param.dtype)
        torch._foreach_addcmul_(
            self.params, self.scaled_updates, list(ratios.unbind()), value=-self.settings.lr / self.scale
        )
        self.scaled_updates = []


def foreach_lamb_update(parts: list[Part]) -> None:
    """One step of LAMB on all parts, in place.

    Args:
        parts: in the same order of parameters on every rank that shares any of them. Their `state` holds `exp_avg` and
            `exp_avg_sq` of the part's shape and `step`, a CPU scalar.
    """
    sorted_out: dict[tuple[object, ...], list[Part]] = defaultdict(list)
    for part in parts:
        if part.state:
            step = part.state["step"].add_(1).item()
            if part.grad is not None and part.param.numel() > 0:
                sorted_out[part.settings, part.param.device, part.param.dtype, step].append(part)
    buckets = [
        _Bucket(members, members[0].settings, members[0].state["step"].item()) for members in sorted_out.values()
    ]
    for bucket in buckets:
        bucket.update_moments()

    shared = [part for part in parts if part.placement.groups and part.settings.weight_decay > 0]
    if shared:
        for bucket in buckets:
            bucket.share_norms()
        for part in shared:
            if part.squared_norms is None:
                own = _norms([part.param]).square()
                part.squared_norms = torch.cat([own, torch.zeros_like(own)])
        squared_norms = [part.squared_norms for part in shared if part.squared_norms is not None]
        for part, total in zip(shared, sum_over_ranks(squared_norms, [part.placement for part in shared])):
            part.squared_norms = total
    for bucket in buckets:
        bucket.apply()


def _norms(tensors: list[Tensor]) -> Tensor:
    """[len(tensors)] Euclidean norms, in float32 at least."""
    dtype = torch.promote_types(tensors[0].dtype, torch.float32)
    return torch.stack(list(torch._foreach_norm(tensors, 2, dtype)))
