"""Disentangled attention with gradients on a CPU, in as few passes over `[B, H, T, T]` as torch's operations allow.

Savings over the written-out formula (`attention.plain_attention`): heads come first, so that every product with the
positions is one large product per head; scale, scores and padding are added in place; position-to-content scores are
looked up before they are transposed; of `[B, H, T, T]` only the probabilities before and after dropout are kept.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .dropout import LEVELS, draw_kept
from .kernels import require_first_derivative


class CpuAttention(torch.autograd.Function):
    """Attention as `attention.plain_attention` computes it, in float32 or float64, with one derivative.

    Arguments of `apply` are those of `plain_attention`, the mask being `[B, 1, 1, T]` bool or None.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query_key: Tensor,
        value: Tensor,
        position: Tensor,
        buckets: Tensor,
        padding: Tensor | None,
        scale: float,
        dropout: float,
    ) -> Tensor:
        """`[B, T, heads, d]`; probabilities are dropped as in `dropout.dropout`."""
        levels = min(round(dropout * LEVELS), LEVELS - 1)
        batch, length, _, heads, size = query_key.shape
        buckets_count = len(position)
        enlarged = LEVELS / (LEVELS - levels)
        query = heads_first(query_key[:, :, 0], scale)
        key = heads_first(query_key[:, :, 1])
        # Scale the values by dropout's factor instead of the probabilities: they are the smaller tensor.
        value = heads_first(value, enlarged)
        query_position, key_position = position.permute(1, 2, 0, 3).contiguous().unbind()
        query_position = query_position * scale

        rows = (heads, batch * length, size)
        table = (heads * batch, length, buckets_count)
        index = buckets.expand(heads * batch, -1, -1)
        by_query = torch.bmm(query.view(rows), key_position.transpose(1, 2)).view(table)
        by_key = torch.bmm(key.view(rows), query_position.transpose(1, 2)).view(table)
        scores = by_query.gather(2, index)
        scores += by_key.gather(2, index.transpose(1, 2)).transpose(1, 2)
        scores.baddbmm_(query, key.transpose(1, 2))
        if padding is not None and padding.any():
            lowest = torch.zeros_like(padding, dtype=scores.dtype).masked_fill_(padding, torch.finfo(scores.dtype).min)
            scores.view(heads, batch, length, length).add_(lowest.view(1, batch, 1, length))
        probabilities = torch.softmax(scores, dim=-1)
        if padding is not None and (without_keys := padding.all(-1).flatten()).any():
            # A sequence of padding attends to nothing, as in `attention.plain_attention`.
            probabilities.view(heads, batch, length, length)[:, without_keys] = 0.0
        kept = draw_kept(probabilities.shape, levels) if levels else None
        dropped = probabilities if kept is None else torch.mul(probabilities, kept, out=scores)
        context = torch.bmm(dropped, value)
        ctx.save_for_backward(query, key, value, query_position, key_position, probabilities, dropped, kept, buckets)
        ctx.shape, ctx.scale, ctx.enlarged = (batch, length, heads, size), scale, enlarged
        return tokens_first(context, batch)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        """Gradients of `query_key`, `value` and `position`."""
        require_first_derivative("attention on a CPU")
        query, key, value, query_position, key_position, probabilities, dropped, kept, buckets = ctx.saved_tensors
        batch, length, heads, size = ctx.shape
        rows = (heads, batch * length, size)
        table = (heads * batch, length, key_position.shape[1])
        flat_table = (heads, batch * length, key_position.shape[1])
        index = buckets.expand(heads * batch, -1, -1)
        gradient = heads_first(gradient)

        for_value = torch.bmm(dropped.transpose(1, 2), gradient).mul_(ctx.enlarged)
        for_scores = torch.bmm(gradient, value.transpose(1, 2))
        if kept is not None:
            for_scores *= kept
        for_scores = torch._softmax_backward_data(for_scores, probabilities, -1, probabilities.dtype)
        transposed = for_scores.transpose(1, 2).contiguous()
        by_query = for_scores.new_zeros(table).scatter_add_(2, index, for_scores).view(flat_table)
        by_key = for_scores.new_zeros(table).scatter_add_(2, index.transpose(1, 2), transposed).view(flat_table)

        for_query = torch.bmm(by_query, key_position).view(query.shape).baddbmm_(for_scores, key)
        for_key = torch.bmm(by_key, query_position).view(key.shape).baddbmm_(transposed, query)
        for_query_key = query.new_empty(batch, length, 2, heads, size)
        torch.mul(tokens_first(for_query, batch), ctx.scale, out=for_query_key[:, :, 0])
        for_query_key[:, :, 1] = tokens_first(for_key, batch)
        for_query_position = torch.bmm(by_key.transpose(1, 2), key.view(rows)).mul_(ctx.scale)
        for_key_position = torch.bmm(by_query.transpose(1, 2), query.view(rows))
        for_position = torch.stack((for_query_position, for_key_position)).permute(2, 0, 1, 3)
        return for_query_key, tokens_first(for_value, batch), for_position, None, None, None, None


def heads_first(x: Tensor, factor: float = 1.0) -> Tensor:
    """`[B, T, heads, d]` -> `[heads * B, T, d]`, copied, times a factor."""
    moved = x.permute(2, 0, 1, 3)
    moved = moved.contiguous() if factor == 1.0 else (moved * factor).contiguous()
    return moved.view(-1, *moved.shape[2:])


def tokens_first(x: Tensor, batch: int) -> Tensor:
    """`[heads * B, T, d]` -> `[B, T, heads, d]`, a view."""
    return x.view(-1, batch, *x.shape[1:]).permute(1, 2, 0, 3)
