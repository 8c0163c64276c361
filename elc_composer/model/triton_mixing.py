"""Triton kernels of layer mixing: each state is read once, each result written once; sums are in float32."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError as error:
    raise ImportError("kernels=triton needs the package triton; install it or set kernels=torch") from error

BLOCK = 2048
PROGRAMS = 1024
"""Programs of an inner product; each writes one partial sum per state."""


@triton.jit
def _weighted_sum(result, shares, tensors, size, WIDE: tl.constexpr, BLOCK: tl.constexpr):
    offsets = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = offsets < size
    total = tl.zeros([BLOCK], WIDE)
    for i in tl.static_range(len(tensors)):
        share = tl.load(shares + i).to(WIDE)
        total += share * tl.load(tensors[i] + offsets, mask=inside, other=0.0).to(WIDE)
    tl.store(result + offsets, total, mask=inside)


@triton.jit
def _inner_products(partial, other, tensors, size, WIDE: tl.constexpr, ROOM: tl.constexpr, BLOCK: tl.constexpr):
    program, programs = tl.program_id(0), tl.num_programs(0)
    number = tl.arange(0, ROOM)
    sums = tl.zeros([ROOM], WIDE)
    for start in range(program * BLOCK, size, programs * BLOCK):
        offsets = start + tl.arange(0, BLOCK).to(tl.int64)
        inside = offsets < size
        factor = tl.load(other + offsets, mask=inside, other=0.0).to(WIDE)
        for i in tl.static_range(len(tensors)):
            product = tl.sum(factor * tl.load(tensors[i] + offsets, mask=inside, other=0.0).to(WIDE), axis=0)
            sums += tl.where(number == i, product, 0.0)
    tl.store(partial + program * ROOM + number, sums)


def weighted_sum(tensors: Sequence[Tensor], shares: Tensor, dtype: torch.dtype) -> Tensor:
    """Sum of n tensors of one shape, each times its entry of `shares` `[n]`, in `dtype`."""
    flat = tuple(tensor.contiguous() for tensor in tensors)
    result = torch.empty_like(flat[0], dtype=dtype)
    size = result.numel()
    with torch.cuda.device_of(result):
        _weighted_sum[(triton.cdiv(size, BLOCK),)](result, shares.contiguous(), flat, size, _wide(shares), BLOCK)
    return result


def inner_products(tensors: Sequence[Tensor], other: Tensor) -> Tensor:
    """`[n]`: the inner product of each of n tensors with one other of the same shape, in at least float32.

    One pass over all tensors gives a partial sum per program and state; a sum over programs follows. Deterministic.
    """
    flat = tuple(tensor.contiguous() for tensor in tensors)
    room = triton.next_power_of_2(len(flat))
    programs = min(PROGRAMS, triton.cdiv(other.numel(), BLOCK))
    wide = _wide(other)
    partial = torch.empty(programs, room, dtype=_TORCH[wide], device=other.device)
    with torch.cuda.device_of(other):
        _inner_products[(programs,)](partial, other.contiguous(), flat, other.numel(), wide, room, BLOCK)
    return partial.sum(0)[: len(flat)]


_TORCH = {tl.float32: torch.float32, tl.float64: torch.float64}


def _wide(tensor: Tensor) -> tl.dtype:
    return tl.float64 if tensor.dtype == torch.float64 else tl.float32
