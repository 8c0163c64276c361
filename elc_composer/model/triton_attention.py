"""Disentangled attention as one differentiable operator: Triton kernels for the `[T, T]` part, GEMMs for the tables.

The kernels look position scores up in two tables with one column per bucket. The backward pass has two forms. For short
sequences in half precision, it reads the forward's probabilities: one tensor of `[B, H, T, T]`, two bytes an element.
Otherwise no such tensor is allocated, and scores, look-ups and dropout's mask are computed again. Results are
deterministic: every gradient has one writer. The algorithm is that of FlashAttention 2 (Dao 2023), with look-ups and
their gradients added.
"""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .kernels import require_first_derivative
from .triton_attention_kernels import forward_kernel, key_gradient_kernel, query_gradient_kernel, tl
from .triton_attention_saved_kernels import one_hot_kernel, saved_key_gradient_kernel, saved_query_gradient_kernel

LOG2E = math.log2(math.e)
DTYPES = (torch.float16, torch.bfloat16, torch.float32)
MAX_HEAD_SIZE = 128
MAX_BUCKETS = 128
SAVED_LENGTH = 1024
"""Longest sequence, in tokens, whose probabilities are kept for the backward pass; 0 computes all again."""


class Launch(NamedTuple):
    """Launch settings of a kernel: tile sizes (tokens), warps and software-pipeline stages."""

    block_m: int
    block_n: int
    warps: int
    stages: int


def launches(length: int, head_size: int, element_size: int, saved: bool = False) -> tuple[Launch, Launch]:
    """Launch settings of the forward and of both backward kernels; `saved`: those with saved probabilities.

    Without `saved`, the fastest of those measured on an H200 with heads of 64 in bfloat16, at 128 and at 512 tokens;
    with it, chosen by instructions and registers of the compiled code: docs/attention.md.
    """
    whole = max(16, 1 << (length - 1).bit_length())
    wide = head_size > 64 or element_size > 2
    side = min(32 if wide else 64, whole)
    # A tile of 16 queries has work for one warp: four execute 2.4 times as many instructions (compiled for sm_90,
    # bfloat16, heads of 64). In float32 one warp needs 185 registers, so that few fit on an SM; two need 80 each and
    # execute 0.74 times the instructions of four. Not timed.
    warps = 4 if whole > 16 or head_size > 64 else 1 if element_size == 2 else 2
    return Launch(min(64, whole), side if saved else min(32, whole), warps, 2), Launch(side, side, 4, 1)


def supported(query_key: Tensor, buckets: int) -> bool:
    """Whether the kernels take these `[B, T, 2, heads, head_size]` queries and keys, and so many buckets."""
    return query_key.dtype in DTYPES and query_key.shape[-1] <= MAX_HEAD_SIZE and buckets <= MAX_BUCKETS


def triton_attention(
    query_key: Tensor,
    value: Tensor,
    position: Tensor,
    buckets: Tensor,
    padding: Tensor | None,
    scale: float,
    dropout: float = 0.0,
) -> Tensor:
    """Attend, with content-to-position and position-to-content scores (He et al. 2021).

    Args:
        query_key: `[B, T, 2, H, D]` queries, then keys.
        value: `[B, T, H, D]`, of the same dtype (float16, bfloat16 or float32).
        position: `[R, 2, H, D]` queries, then keys, of the relative embeddings.
        buckets: `[2 T - 1]` int32: the row of `position` for every distance (query - key), from `1 - T` on.
        padding: `[B, T]` bool, True at padded keys, or None.
        scale: factor of all three kinds of score.
        dropout: share of the attention probabilities that is dropped, in steps of 2^-16. Its seed is drawn from
            torch's generator of that device, without a synchronization; recomputation under a restored random state
            (activation checkpointing) drops the same ones.

    Returns:
        `[B, T, H, D]`; zeros (and no gradients) where a sequence is padding throughout.
    """
    seed = None
    if dropout > 0.0:
        seed = torch.randint(2**63 - 1, (1,), dtype=torch.int64, device=value.device)
    save = saves_probabilities(query_key, value, position)
    return attention_op(query_key, value, position, buckets, padding, seed, scale, dropout, save)[0]


def saves_probabilities(query_key: Tensor, value: Tensor, position: Tensor) -> bool:
    """Whether the forward pass keeps its probabilities: in half precision, for short sequences, if gradients follow.

    Float32 would need twice the memory for its precision.
    """
    wanted = torch.is_grad_enabled() and any(x.requires_grad for x in (query_key, value, position))
    return wanted and value.element_size() == 2 and value.shape[1] <= SAVED_LENGTH


def padded_length(length: int, forward: Launch, backward: Launch) -> int:
    """Rows and columns of a head's saved probabilities: whole blocks of both passes."""
    block = max(forward.block_m, forward.block_n, backward.block_m)
    return -(-length // block) * block


def saved_shapes(value: Tensor, save: bool) -> tuple[list[int], list[int]]:
    """Shapes of the probabilities `[B, H, P, P]` and of the maxima `[B, H, blocks, P]` that are saved, else `[0]`."""
    b, t, h, d = value.shape
    if not save:
        return [0], [0]
    launch, backward_launch = launches(t, d, value.element_size(), True)
    padded = padded_length(t, launch, backward_launch)
    return [b, h, padded, padded], [b, h, padded // launch.block_n, padded]


def position_scores(query_key: Tensor, position: Tensor) -> Tensor:
    """`[2 H, B T, R]`: queries with the positions' keys, then keys with the positions' queries; not yet scaled."""
    b, t, _, h, d = query_key.shape
    return torch.bmm(
        query_key.view(b * t, 2 * h, d).transpose(0, 1), position.flip(1).view(-1, 2 * h, d).permute(1, 2, 0)
    )


def padded_buckets(position: Tensor) -> Tensor:
    """Zeros appended to `[R, 2, H, D]` so that R is a power of two of at least 16."""
    rows = max(16, 1 << (len(position) - 1).bit_length())
    return torch.nn.functional.pad(position, (0, 0, 0, 0, 0, 0, 0, rows - len(position)))


def shared_arguments(query_key: Tensor, position: Tensor, padding: Tensor | None, dropout: float) -> dict[str, Any]:
    """Compile-time constants of all kernels."""
    dtype, interpreted = query_key.dtype, query_key.device.type == "cpu"
    exact = dtype == torch.float32 and not torch.backends.cuda.matmul.allow_tf32
    # numpy, which interprets, has no bfloat16.
    kinds = {torch.float16: tl.float16, torch.bfloat16: tl.float32 if interpreted else tl.bfloat16}
    size = query_key.shape[-1]
    return {
        "D": size,
        "BLOCK_D": max(16, 1 << (size - 1).bit_length()),
        "BLOCK_R": len(position),
        "BLOCK_T": max(16, 1 << (query_key.shape[1] - 1).bit_length()) if padding is not None else 16,
        "HAS_PADDING": padding is not None,
        "DROPOUT": dropout > 0.0,
        "DOT": kinds.get(dtype, tl.float32),
        "PRECISION": "ieee" if exact else "tf32",
    }


def dropout_threshold(dropout: float) -> tuple[int, float]:
    """Number of the 2^16 random values that drop an element, and the factor of kept elements."""
    threshold = round(dropout * 2**16)
    return threshold, 1.0 / (1.0 - threshold / 2**16)


def forward(
    query_key: Tensor,
    value: Tensor,
    position: Tensor,
    buckets: Tensor,
    padding: Tensor | None,
    seed: Tensor | None,
    scale: float,
    dropout: float,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Output `[B, T, H, D]`, base-2 log of the softmax's sums, `[B, H, T]` float32, and tensors of `saved_shapes`."""
    query_key, value, position = query_key.contiguous(), value.contiguous(), padded_buckets(position)
    b, t, h, d = value.shape
    out = torch.empty_like(value)
    log_sum = torch.empty(b, h, t, dtype=torch.float32, device=value.device)
    shape, maxima_shape = saved_shapes(value, save)
    saved, maxima = value.new_empty(shape), log_sum.new_empty(maxima_shape)
    if out.numel() == 0:
        return out, log_sum, saved, maxima
    table = position_scores(query_key, position)
    launch, backward_launch = launches(t, d, value.element_size(), save)
    with torch.cuda.device_of(value):
        forward_kernel[(b * h * -(-t // launch.block_m),)](
            query_key, value, table, buckets, as_bytes(padding, query_key), query_key if seed is None else seed,
            out, log_sum, saved, maxima, b, t, h, shape[-1], scale * LOG2E, *dropout_threshold(dropout),
            SAVE=backward_launch.block_m if save else 0, BLOCK_M=launch.block_m, BLOCK_N=launch.block_n,
            num_warps=launch.warps, num_stages=launch.stages,
            **shared_arguments(query_key, position, padding, dropout),
        )  # fmt: skip
    return out, log_sum, saved, maxima


def backward(
    d_out: Tensor,
    query_key: Tensor,
    value: Tensor,
    position: Tensor,
    buckets: Tensor,
    padding: Tensor | None,
    seed: Tensor | None,
    out: Tensor,
    log_sum: Tensor,
    saved: Tensor,
    maxima: Tensor,
    scale: float,
    dropout: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `query_key`, `value` and `position`."""
    (b, t, h, d), rows = value.shape, len(position)
    query_key, value, position = query_key.contiguous(), value.contiguous(), padded_buckets(position)
    d_query_key, d_value = torch.empty_like(query_key), torch.empty_like(value)
    if out.numel() == 0:
        return d_query_key, d_value, torch.zeros_like(position[:rows])
    d_out = d_out.contiguous()
    save = saved.numel() > 0
    forward_launch, launch = launches(t, d, value.element_size(), save)
    blocks = -(-t // launch.block_m)
    # Each block of tokens writes its part of the positions' gradient; a sum in a fixed order replaces atomics.
    shares = torch.empty(b * blocks, *position.shape, dtype=position.dtype, device=position.device)
    delta = torch.empty_like(log_sum)
    padded = as_bytes(padding, query_key)
    threshold, keep_scale = dropout_threshold(dropout)
    options = {
        **shared_arguments(query_key, position, padding, dropout),
        "BLOCK": launch.block_m,
        "num_warps": launch.warps,
        "num_stages": launch.stages,
    }
    grid = (b * h * blocks,)
    with torch.cuda.device_of(value):
        if save:
            size = saved.shape[-1]
            one_hot = saved.new_empty(2 * size, len(position))
            one_hot_kernel[(2 * size // launch.block_m,)](
                buckets, one_hot, t, size, BLOCK=launch.block_m, BLOCK_R=len(position)
            )
            del options["DROPOUT"]
            options["BLOCK_N"] = forward_launch.block_n
            kept = (query_key, value, position, padded, saved, maxima, one_hot)
            numbers = (b, t, h, size, scale, keep_scale)
            saved_query_gradient_kernel[grid](
                *kept, out, log_sum, d_out, delta, d_query_key, shares, *numbers, **options
            )
            saved_key_gradient_kernel[grid](
                *kept, log_sum, d_out, delta, d_query_key, d_value, shares, *numbers, **options
            )
        else:
            table = position_scores(query_key, position)
            given = (query_key, value, table, position, buckets, padded, query_key if seed is None else seed)
            sizes = (b, t, h, scale, scale * LOG2E, threshold, keep_scale)
            query_gradient_kernel[grid](*given, out, log_sum, d_out, delta, d_query_key, shares, *sizes, **options)
            key_gradient_kernel[grid](*given, log_sum, d_out, delta, d_query_key, d_value, shares, *sizes, **options)
    # torch sums half precision in float32 and rounds once.
    return d_query_key, d_value, shares.sum(0)[:rows]


def as_bytes(padding: Tensor | None, instead: Tensor) -> Tensor:
    """`[B, T]` bool as int8; without padding any other tensor, which the kernels do not read."""
    return instead if padding is None else padding.contiguous().view(torch.int8)


# Named after the module, so that an exported model's copy of this file registers its own operators.
_NAME = re.sub(r"\W", "_", __name__)
_INPUTS = "Tensor query_key, Tensor value, Tensor position, Tensor buckets, Tensor? padding, Tensor? seed"
attention_op = torch.library.custom_op(
    f"{_NAME}::attention",
    forward,
    mutates_args=(),
    schema=f"({_INPUTS}, float scale, float dropout, bool save) -> (Tensor, Tensor, Tensor, Tensor)",
)
attention_backward_op = torch.library.custom_op(
    f"{_NAME}::attention_backward",
    backward,
    mutates_args=(),
    schema=f"(Tensor d_out, {_INPUTS}, Tensor out, Tensor log_sum, Tensor saved, Tensor maxima,"
    " float scale, float dropout)"
    " -> (Tensor, Tensor, Tensor)",
)


@attention_op.register_fake
def _(query_key: Tensor, value: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    b, t, h, _d = value.shape
    saved, maxima = saved_shapes(value, rest[-1])
    return (
        torch.empty_like(value, memory_format=torch.contiguous_format),
        value.new_empty(b, h, t, dtype=torch.float32),
        value.new_empty(saved),
        value.new_empty(maxima, dtype=torch.float32),
    )


@attention_backward_op.register_fake
def _(d_out: Tensor, query_key: Tensor, value: Tensor, position: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    contiguous = torch.contiguous_format
    return (
        torch.empty_like(query_key, memory_format=contiguous),
        torch.empty_like(value, memory_format=contiguous),
        torch.empty_like(position, memory_format=contiguous),
    )


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.scale, ctx.dropout, _ = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.mark_non_differentiable(*output[1:])


def _differentiate(ctx: Any, d_out: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    require_first_derivative("attention with kernels=triton")
    gradients = attention_backward_op(d_out, *ctx.saved_tensors, ctx.scale, ctx.dropout)
    return (*gradients, None, None, None, None, None, None)


attention_op.register_autograd(_differentiate, setup_context=_keep)
