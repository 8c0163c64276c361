"""Disentangled attention (He et al. 2021) with log-bucketed relative positions, as in LTG-BERT."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .attention_mask import apply_mask, is_padding, without_keys
from .configuration_elc import ElcConfig
from .cpu_attention import CpuAttention
from .dropout import Dropout
from .dropout import dropout as drop
from .kernels import is_exporting, resolve_kernels
from .layer_norm import LayerNorm, autocast_dtype
from .triton_attention import supported, triton_attention


def relative_position_buckets(bucket_size: int, max_positions: int) -> Tensor:
    """Bucket of every distance between two positions.

    Distances up to half of `bucket_size` have a bucket each; beyond, buckets widen logarithmically to `max_positions`.

    Args:
        bucket_size: buckets per direction, including that of distance 0.
        max_positions: longest sequence, in tokens.

    Returns:
        `[2 * max_positions - 1]` int64, values in `0 .. 2 * bucket_size - 2`; entry `max_positions - 1 + (q - k)`
        belongs to a query at position q and a key at position k.
    """
    # The published table was computed in float32 on the CPU; borders between buckets depend on it. Integers divided
    # by integers have the default dtype, which may be narrower: hence the explicit conversion.
    distance = torch.arange(1 - max_positions, max_positions, device="cpu")
    exact = bucket_size // 2
    size = distance.abs().clamp(min=1).float()
    growth = torch.log(size / exact) / math.log((max_positions - 1) / exact)
    # Rounding puts the last bucket's end one bucket further for some lengths (with 4 buckets a side, 48 positions).
    wide = (torch.ceil(growth * (exact - 1)) + exact).long().clamp(max=bucket_size - 1)
    bucket = torch.where(size <= exact, distance, wide * distance.sign())
    return bucket + bucket_size - 1


class RelativePositions(nn.Module):
    """Bucket table, shared by all layers and not stored in checkpoints."""

    buckets: Tensor

    def __init__(self, config: ElcConfig) -> None:
        super().__init__()
        self.bucket_size = config.position_bucket_size
        self.max_positions = config.max_position_embeddings
        self.register_buffer(
            "buckets", relative_position_buckets(self.bucket_size, self.max_positions), persistent=False
        )

    def reset_parameters(self) -> None:
        """Fill the table, for a module that was created on the meta device."""
        self.buckets.copy_(relative_position_buckets(self.bucket_size, self.max_positions))

    def forward(self, length: int) -> Tensor:
        """`[length, length]` int64: the bucket of query q (rows) and key k (columns).

        Beyond `max_position_embeddings` the table is made for that length, as published: buckets of the same number
        reach to `length` positions, so that wide ones begin farther away. It is not kept. An exported graph has no such
        branch: it fails there.
        """
        table, longest = self.buckets, self.max_positions
        if not is_exporting() and length > longest:
            table, longest = relative_position_buckets(self.bucket_size, length).to(self.buckets.device), length
        positions = torch.arange(length, device=table.device)
        return table[positions[:, None] - positions[None, :] + longest - 1]


def by_distance(buckets: Tensor) -> Tensor:
    """`[T, T]` buckets of query and key -> `[2 T - 1]` int32, those of the distances `1 - T` to `T - 1`."""
    return torch.cat((buckets[0].flip(0), buckets[1:, 0])).to(torch.int32)


class Attention(nn.Module):
    """Multi-head attention whose scores add content-to-position and position-to-content terms.

    One matrix projects to all queries, then all keys; it also projects the relative embeddings.
    """

    def __init__(self, config: ElcConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.heads = config.num_attention_heads
        self.head_size = size // self.heads
        self.scale = 1.0 / math.sqrt(3 * self.head_size)
        self.attention_dropout = config.attention_probs_dropout_prob
        self.kernels = config.kernels
        self.in_proj_qk = nn.Linear(size, 2 * size)
        self.in_proj_v = nn.Linear(size, size)
        self.out_proj = nn.Linear(size, size)
        self.pre_layer_norm = LayerNorm(size, config.layer_norm_eps, config.layer_norm_dtype, elementwise_affine=False)
        self.post_layer_norm = LayerNorm(size, config.layer_norm_eps, config.layer_norm_dtype)
        # All three dropouts of the block have the rate of the attention's probabilities, as published.
        self.dropout = Dropout(config.attention_probs_dropout_prob, config.kernels)
        self.projected: dict[torch.dtype, Tensor] | None = None
        """Projected relative embeddings by dtype, inside `reuse_positions`; else None."""

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        relative: Tensor,
        buckets: Tensor,
        positions: Tensor | None = None,
        probabilities: list[Tensor] | None = None,
        normed: Tensor | None = None,
    ) -> Tensor:
        """Attend.

        Args:
            x: `[B, T, D]`.
            mask: bool, True at masked keys, or float, added to the scores; `[B, 1 or heads, 1 or T, T]`. None for none.
            relative: `[2 * bucket_size - 1, D]` normalized relative embeddings.
            buckets: `[T, T]` int64, row of `relative` for each query and key.
            positions: `[M]` int64, flat in `B * T`, where the result is wanted; None for everywhere.
            probabilities: the attention probabilities `[B, heads, T, T]` are appended to this list, after dropout; the
                eager form computes them, whatever `kernels` says.
            normed: `pre_layer_norm(x)` `[B, T, D]` if the caller has it; `x` is then not read.

        Returns:
            `[B, T, D]`, or `[M, D]` at `positions`.
        """
        x = autocast_once(self.pre_layer_norm(x) if normed is None else normed)
        query_key = self.in_proj_qk(x).unflatten(-1, (2, self.heads, self.head_size))
        value = self.in_proj_v(x).unflatten(-1, (self.heads, self.head_size))
        position = self._projected(relative, x.dtype)
        kernels = "eager" if probabilities is not None else resolve_kernels(self.kernels, x)
        dropout = self.attention_dropout if self.training else 0.0
        if kernels == "triton" and is_padding(mask) and supported(query_key, len(position)):
            padding = None if mask is None else mask.flatten(1)
            context = triton_attention(query_key, value, position, by_distance(buckets), padding, self.scale, dropout)
        elif kernels == "eager":
            context, found = plain_attention(query_key, value, position, buckets, mask, self.scale, dropout)
            if probabilities is not None:
                probabilities.append(found)
        else:
            context = torch_attention(query_key, value, position, buckets, mask, self.scale, dropout)
        context = context.flatten(2)
        if positions is not None:
            context = context.flatten(0, 1).index_select(0, positions)
        return self.dropout(self.post_layer_norm(self.out_proj(context)))

    def _projected(self, relative: Tensor, dtype: torch.dtype) -> Tensor:
        """`[R, D]` relative embeddings -> `[R, 2, heads, head_size]`, their queries and keys."""
        reused = None if self.training or torch.is_grad_enabled() else self.projected
        if reused is not None and dtype in reused:
            return reused[dtype]
        position = self.in_proj_qk(self.dropout(relative)).unflatten(-1, (2, self.heads, self.head_size))
        if reused is not None:
            reused[dtype] = position
        return position


@contextmanager
def reuse_positions(model: nn.Module) -> Iterator[None]:
    """Inside, each layer projects the relative embeddings once, in eval mode without gradients.

    For many batches with the same weights: weights that change inside have no effect on the projections.
    """
    attentions = [module for module in model.modules() if isinstance(module, Attention)]
    for attention in attentions:
        attention.projected = {}
    try:
        yield
    finally:
        for attention in attentions:
            attention.projected = None


def autocast_once(x: Tensor) -> Tensor:
    """`x` in autocast's dtype, so that several products do not each convert it; unchanged without autocast."""
    narrow = autocast_dtype(x)
    return x if narrow is None else x.to(narrow)


def plain_attention(
    query_key: Tensor,
    value: Tensor,
    position: Tensor,
    buckets: Tensor,
    mask: Tensor | None,
    scale: float,
    dropout: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Attend, written out.

    Args:
        query_key: `[B, T, 2, heads, head_size]` queries, then keys.
        value: `[B, T, heads, head_size]`.
        position: `[R, 2, heads, head_size]` queries, then keys, of the relative embeddings.
        buckets: `[T, T]` int64, row of `position` for each query and key.
        mask: as `Attention.forward` takes it.
        scale: factor of all scores.
        dropout: share of the attention probabilities that is dropped.

    Returns:
        The result `[B, T, heads, head_size]`, 0 for queries that may read no key, and the probabilities
        `[B, heads, T, T]`.
    """
    query, key = query_key.transpose(1, 3).unbind(2)
    query_position, key_position = (position * scale).transpose(0, 2).unbind(1)
    bias = bias_by_bucket(query, key, query_position, key_position, buckets)
    scores = apply_mask(query @ key.transpose(-1, -2) * scale + bias, mask)
    probabilities = torch.softmax(scores, dim=-1)
    if mask is not None:
        probabilities = probabilities.masked_fill(without_keys(mask), 0.0)
    probabilities = drop(probabilities, dropout, True, "eager")
    return (probabilities @ value.transpose(1, 2)).transpose(1, 2), probabilities


def torch_attention(
    query_key: Tensor,
    value: Tensor,
    position: Tensor,
    buckets: Tensor,
    mask: Tensor | None,
    scale: float,
    dropout: float = 0.0,
) -> Tensor:
    """The result of `plain_attention`, by the fastest of torch's operators."""
    if is_padding(mask) and uses_cpu_attention(query_key):
        return CpuAttention.apply(query_key, value, position, buckets, mask, scale, dropout)
    query, key = query_key.transpose(1, 3).unbind(2)
    # Sequences so short that there are fewer distances than buckets need no look-up.
    # An exported graph serves every length, so that it must not branch on this one.
    short = not is_exporting() and 2 * len(buckets) - 1 <= len(position)
    look_up = bias_by_distance if short else bias_by_bucket
    query_position, key_position = (position * scale).transpose(0, 2).unbind(1)
    bias = apply_mask(look_up(query, key, query_position, key_position, buckets), mask)
    # The CPU's fused kernel has no gradient for a bias; what torch falls back to is slower than the plain form.
    if bias.requires_grad and not bias.is_cuda:
        probabilities = torch.softmax(query @ key.transpose(-1, -2) * scale + bias, dim=-1)
        context = drop(probabilities, dropout, True, "torch") @ value.transpose(1, 2)
    else:
        context = F.scaled_dot_product_attention(query, key, value.transpose(1, 2), bias, dropout, scale=scale)
    return (context if mask is None else context.masked_fill(without_keys(mask), 0.0)).transpose(1, 2)


def uses_cpu_attention(query_key: Tensor) -> bool:
    """Whether `torch_attention` may use `CpuAttention`: on a CPU with gradients, in float32 or float64, uncompiled."""
    wide = query_key.device.type == "cpu" and query_key.dtype in (torch.float32, torch.float64)
    return wide and torch.is_grad_enabled() and not torch.compiler.is_compiling()


def bias_by_bucket(query: Tensor, key: Tensor, query_position: Tensor, key_position: Tensor, buckets: Tensor) -> Tensor:
    """`[B, heads, T, T]`: each content against the other side's position, looked up by bucket."""
    index = buckets.expand(*query.shape[:2], -1, -1)
    by_query = each_with_all(query, key_position).gather(-1, index)
    by_key = each_with_all(key, query_position).gather(-1, index.transpose(-1, -2)).transpose(-1, -2)
    return by_query + by_key


def bias_by_distance(
    query: Tensor, key: Tensor, query_position: Tensor, key_position: Tensor, buckets: Tensor
) -> Tensor:
    """The same as `bias_by_bucket`, from products with the position of every distance."""
    distances = by_distance(buckets)
    by_query = each_with_all(query, key_position[:, distances.flip(0)])
    by_key = each_with_all(key, query_position[:, distances])
    return skewed(by_query) + skewed(by_key).transpose(-1, -2)


def each_with_all(content: Tensor, position: Tensor) -> Tensor:
    """`[B, heads, T, D]`, `[heads, N, D]` -> `[B, heads, T, N]`, their inner products.

    One product a head over all tokens: `content @ position.mT` would copy both, once a sequence.
    """
    batch, _, length, _ = content.shape
    flat = content.transpose(0, 1).flatten(1, 2)
    return torch.bmm(flat, position.transpose(1, 2)).unflatten(1, (batch, length)).transpose(0, 1)


def skewed(x: Tensor) -> Tensor:
    """`[..., T, 2 T - 1]` -> `[..., T, T]`, a view: row i, column j is the old column j - i + T - 1."""
    length = x.shape[-2]
    if length == 1:
        return x
    shape = (length, 2 * length - 2)
    return x.flatten(-2).narrow(-1, length - 1, shape[0] * shape[1]).unflatten(-1, shape)[..., :length]
