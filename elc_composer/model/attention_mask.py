"""Attention masks: checks the forms that callers pass and brings them to one that broadcasts to `[B, heads, T, T]`."""

from __future__ import annotations

import torch
from torch import Tensor

MASKING_VALUE = torch.finfo(torch.float16).min
"""An additive mask with this value or a lower one masks its key: -inf, -1e9, and the lowest number of any dtype."""


def prepare_mask(attention_mask: Tensor | None, batch: int, length: int, heads: int) -> Tensor | None:
    """One of two forms of any mask. Shapes and dtypes decide, never values, so that models can be exported.

    Args:
        attention_mask: `[B, T]`, nonzero at real tokens, in any dtype. Or `[B, T, T]` or `[B, heads, T, T]` (queries,
            then keys; all but the keys may be 1): booleans and integers are nonzero where a query reads a key, floats
            are added to the scores.
        batch: B.
        length: T.
        heads: heads of each layer.

    Returns:
        Bool, True at masked keys, or float, added to the scores; `[B, 1 or heads, 1 or T, T]`.

    Raises:
        ValueError: another shape or a complex dtype.
    """
    if attention_mask is None:
        return None
    if not isinstance(attention_mask, Tensor):
        raise ValueError(f"attention_mask is a {type(attention_mask).__name__}; it must be a tensor")
    mask = attention_mask
    additive = mask.dim() > 2 and mask.is_floating_point()
    if mask.dim() == 2 and mask.shape[0] == batch:
        mask = mask[:, None, None, :]
    elif mask.dim() == 3:
        mask = mask[:, None]
    allowed = ((1, batch), (1, heads), (1, length), (length,))
    fits = mask.dim() == 4 and all(size in sizes for size, sizes in zip(mask.shape, allowed))
    if not fits or mask.is_complex():
        raise ValueError(
            f"attention_mask is {attention_mask.dtype} {list(attention_mask.shape)}; it must be [{batch}, {length}], "
            f"[{batch}, {length}, {length}] or [{batch}, 1 or {heads}, {length}, {length}], and bool, integer or float"
        )
    mask = mask.expand(batch, -1, -1, -1)
    return mask if additive else mask == 0


def is_padding(mask: Tensor | None) -> bool:
    """Whether a mask is None or masks the same keys for all queries and heads: the form that fast kernels take."""
    return mask is None or (mask.dtype == torch.bool and mask.shape[1] == mask.shape[2] == 1)


def masked_keys(mask: Tensor) -> Tensor:
    """True at masked keys, of the mask's shape."""
    return mask if mask.dtype == torch.bool else mask <= MASKING_VALUE


def apply_mask(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Scores `[B, heads, T, T]` with the mask added, and a number at masked keys whose exponential is 0.

    That number is finite, so that a fully masked row does not become NaN, and half of the lowest one, so that other
    terms can still be added in float16; see `without_keys` for such rows.
    """
    if mask is None:
        return scores
    masked = masked_keys(mask)
    if mask.dtype != torch.bool:
        scores = scores + mask.masked_fill(masked, 0.0).to(scores.dtype)
    return scores.masked_fill(masked, torch.finfo(scores.dtype).min / 2)


def without_keys(mask: Tensor) -> Tensor:
    """`[B, 1 or heads, 1 or T, 1]` bool, True for queries that may read no key: their attention must be 0."""
    return masked_keys(mask).all(-1, keepdim=True)
