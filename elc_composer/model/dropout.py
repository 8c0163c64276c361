"""Fast dropout on a CPU: 16 random bits per element.

torch draws a float per element there, on one thread. 16 bits of NumPy's fast integer generator take a fraction of the
time (docs/performance.md). The mask takes a byte per element, a quarter of torch's float mask.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .kernels import resolve_kernels

LEVELS = 1 << 16
LANES = 4
"""16-bit numbers in one 64-bit draw of the generator."""


class Dropout(nn.Dropout):
    """`torch.nn.Dropout` with 16 random bits per element on a CPU, unless `kernels` is `eager`."""

    def __init__(self, p: float, kernels: str) -> None:
        super().__init__(p)
        self.kernels = kernels

    def forward(self, input: Tensor) -> Tensor:
        """As `dropout`."""
        return dropout(input, self.p, self.training, self.kernels)


def dropout(x: Tensor, p: float, training: bool, kernels: str) -> Tensor:
    """Dropout with probability `p`, rounded to a multiple of 1/65,536; kept elements are scaled by 1/(1-p)."""
    if not training or p == 0.0:
        return x
    levels = round(p * LEVELS)
    few_bits = x.device.type == "cpu" and 0 < levels < LEVELS and not torch.compiler.is_compiling()
    if few_bits and resolve_kernels(kernels, x) != "eager":
        return SixteenBitDropout.apply(x, levels)
    return F.dropout(x, p)


def draw_kept(shape: Sequence[int], levels: int) -> Tensor:
    """`shape` uint8 on the CPU: 1 where an element is kept, 0 where 16 random bits are below `levels`.

    The bits come from NumPy's SFC64, seeded from torch's default generator: the same state gives the same elements, so
    that activation checkpointing drops the same elements when it recomputes.
    """
    count = math.prod(shape)
    seed = int(torch.randint(torch.iinfo(torch.int64).max, ()))
    drawn = np.random.SFC64(seed).random_raw(-(-count // LANES)).view(np.uint16)[:count]
    # torch multiplies by bytes three times as fast as by booleans.
    return torch.from_numpy((drawn >= levels).view(np.uint8)).view(tuple(shape))


class SixteenBitDropout(torch.autograd.Function):
    """Sets an element to 0 if 16 random bits, as a number, are below `levels`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, levels: int) -> Tensor:
        """`x` of any shape, on the CPU."""
        kept = draw_kept(x.shape, levels)
        ctx.save_for_backward(kept)
        ctx.scale = LEVELS / (LEVELS - levels)
        return (x * kept).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """The gradient where elements were kept."""
        (kept,) = ctx.saved_tensors
        return (gradient * kept).mul_(ctx.scale), None
