"""LAMB for one whole parameter, written as its formulas: the oracle that the fast form is tested against."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LambSettings:
    """What one step of one parameter group goes by; see `Lamb`."""

    lr: float
    beta1: float
    beta2: float
    eps: float
    weight_decay: float


def plain_lamb_update(
    param: Tensor, grad: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, step: float, settings: LambSettings
) -> None:
    """One step of LAMB (You et al. 2020, arXiv:1904.00962) on one parameter, in place.

    Args:
        param: the whole parameter, any shape.
        grad: its gradient.
        exp_avg: running mean of the gradient, updated too.
        exp_avg_sq: running mean of the squared gradient, updated too.
        step: number of this step, from 1.
        settings: epsilon is added outside the root; the trust ratio ||param|| / ||update|| is applied only where
            weight decay is positive, and is 1 where either norm is zero.
    """
    beta1, beta2 = settings.beta1, settings.beta2
    exp_avg.mul_(beta1).add_(grad, alpha=1 - beta1)
    exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)

    mean = exp_avg / (1 - beta1**step)
    second_moment = exp_avg_sq / (1 - beta2**step)
    update = mean / (second_moment.sqrt() + settings.eps)
    if settings.weight_decay > 0:
        update += settings.weight_decay * param
        # Norms in half precision overflow or lose most digits.
        dtype = torch.promote_types(param.dtype, torch.float32)
        param_norm = torch.linalg.vector_norm(param, dtype=dtype)
        update_norm = torch.linalg.vector_norm(update, dtype=dtype)
        measurable = (param_norm > 0) & (update_norm > 0)
        update *= torch.where(measurable, param_norm / update_norm, 1.0)
    param.add_(update, alpha=-settings.lr)
