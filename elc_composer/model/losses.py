"""Losses of the models with heads: means, or sums over a count that spans the microbatches of a step."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .layer_mixing import at_least_float32

IGNORED = -100
"""Label of positions without a loss."""
PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")


def cross_entropy(logits: Tensor, labels: Tensor, count: Tensor | int | None = None, ignored: int = IGNORED) -> Tensor:
    """Cross-entropy in nats over the labels that are not `ignored`; 0 if there is none, where torch's is NaN.

    Args:
        logits: `[..., C]`.
        labels: `[...]` int64.
        count: what the sum is divided by; None for the number of labels.
        ignored: label without a loss.
    """
    # Autocast converts to float32 on CUDA only.
    logits = at_least_float32(logits)
    total = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=ignored, reduction="sum")
    return total / _divisor((labels != ignored).sum(), count, total)


def sequence_loss(problem: str, logits: Tensor, labels: Tensor, count: Tensor | int | None = None) -> Tensor:
    """Loss of a whole sequence's label, as transformers computes it.

    Args:
        problem: an entry of `PROBLEM_TYPES`: mean squared error, cross-entropy, or binary cross-entropy of each label.
        logits: `[B, C]`.
        labels: `[B]` classes; or as `logits`, where `[B]` will do for a single target.
        count: numbers in the labels of all microbatches of a step, which the sum is divided by; None for the mean.

    Raises:
        ValueError: labels of another shape than the logits.
    """
    if problem == "single_label_classification":
        return cross_entropy(logits, labels.view(-1), count)
    if labels.numel() != logits.numel():
        raise ValueError(f"labels are {list(labels.shape)}; for {problem} they must be {list(logits.shape)}")
    logits = at_least_float32(logits)
    labels = labels.view_as(logits).to(logits.dtype)
    if problem == "regression":
        total = F.mse_loss(logits, labels, reduction="sum")
    else:
        total = F.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
    return total / _divisor(logits.numel(), count, total)


def problem_type(told: str | None, labels: int, dtype: torch.dtype) -> str:
    """The kind of problem: what the config says, else by the rule of transformers from the labels.

    Raises:
        ValueError: an unknown name.
    """
    if told is not None and told not in PROBLEM_TYPES:
        raise ValueError(f"problem_type is '{told}'; it must be one of {', '.join(PROBLEM_TYPES)}")
    if told is not None:
        return told
    if labels == 1:
        return "regression"
    whole = not dtype.is_floating_point and dtype != torch.bool
    return "single_label_classification" if whole else "multi_label_classification"


def span_loss(start: Tensor, end: Tensor, first: Tensor, last: Tensor, count: Tensor | int | None = None) -> Tensor:
    """Mean of the cross-entropies of a span's first and last position; positions beyond the sequence have no loss.

    Args:
        start: `[B, T]` logits of the first position.
        end: `[B, T]` logits of the last position.
        first: `[B]` first positions.
        last: `[B]` last positions.
        count: as in `cross_entropy`.
    """
    length = start.shape[1]
    losses = [
        cross_entropy(logits, where.view(-1).clamp(0, length), count, length)
        for logits, where in ((start, first), (end, last))
    ]
    return (losses[0] + losses[1]) / 2


def _divisor(own: Tensor | int, count: Tensor | int | None, like: Tensor) -> Tensor:
    return torch.as_tensor(own if count is None else count, device=like.device).clamp(min=1)
