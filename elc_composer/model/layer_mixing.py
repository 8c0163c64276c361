"""The ELC mechanism: what a layer reads is a learned, softmax-weighted sum of all earlier outputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def mix(states: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Sum the earlier outputs with the softmax of the layer's weights.

    Args:
        states: n+1 tensors `[B, T, D]`: the embedding output, then each earlier layer's output.
        weights: `[n+1]`, before the softmax.

    Returns:
        `[B, T, D]` in the states' dtype; the softmax itself is taken in at least float32.

    Source: Georges Gabriel Charpentier & Samuel 2023, section 3.
    """
    wide = weights.float() if weights.dtype in (torch.bfloat16, torch.float16) else weights
    shares = torch.softmax(wide, dim=0).to(states[0].dtype)
    mixed = shares[0] * states[0]
    for share, state in zip(shares[1:].unbind(), states[1:], strict=True):
        mixed = torch.addcmul(mixed, share, state)
    return mixed
