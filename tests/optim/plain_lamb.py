"""LAMB written as its formulas, parameter by parameter: the reference that `Lamb` is tested against."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor


class PlainLamb(torch.optim.Optimizer):
    """LAMB (You et al. 2020, arXiv:1904.00962) for whole parameters; arguments as in `Lamb`, unchecked."""

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-2,
        betas: Sequence[float] = (0.9, 0.98),
        eps: float = 1e-6,
        weight_decay: float = 0.1,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:
        """Update every parameter that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    state = self.state[param]
                    state.setdefault("step", 0)
                    state.setdefault("exp_avg", torch.zeros_like(param))
                    state.setdefault("exp_avg_sq", torch.zeros_like(param))
                    state["step"] += 1
                    update_parameter(param, param.grad, **state, group=group)


def update_parameter(
    param: Tensor, grad: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, step: int, group: dict[str, Any]
) -> None:
    """One step of one whole parameter, in place.

    Epsilon is added outside the root; the trust ratio ||param|| / ||update|| is applied only where weight decay is
    positive, and is 1 where either norm is zero.
    """
    beta1, beta2 = group["betas"]
    exp_avg.mul_(beta1).add_(grad, alpha=1 - beta1)
    exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)

    mean = exp_avg / (1 - beta1**step)
    second_moment = exp_avg_sq / (1 - beta2**step)
    update = mean / (second_moment.sqrt() + group["eps"])
    if group["weight_decay"] > 0:
        update += group["weight_decay"] * param
        # Norms in half precision overflow or lose most digits.
        dtype = torch.promote_types(param.dtype, torch.float32)
        param_norm = torch.linalg.vector_norm(param, dtype=dtype)
        update_norm = torch.linalg.vector_norm(update, dtype=dtype)
        measurable = (param_norm > 0) & (update_norm > 0)
        update *= torch.where(measurable, param_norm / update_norm, 1.0)
    param.add_(update, alpha=-group["lr"])
