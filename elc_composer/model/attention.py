"""Disentangled attention (He et al. 2021) with log-bucketed relative positions, as LTG-BERT uses it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .configuration_elc import ElcConfig
from .cpu_attention import CpuAttention
from .dropout import Dropout
from .dropout import dropout as drop
from .kernels import resolve_kernels
from .triton_attention import supported, triton_attention


def relative_position_buckets(bucket_size: int, max_positions: int) -> Tensor:
    """Bucket of every distance between two positions.

    Distances below half of `bucket_size` have a bucket each; beyond, buckets widen logarithmically to `max_positions`.

    Args:
        bucket_size: buckets a side, the diagonal included.
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
    """The bucket table, held once for all layers and never stored in a checkpoint."""

    buckets: Tensor

    def __init__(self, config: ElcConfig) -> None:
        super().__init__()
        self.bucket_size = config.position_bucket_size
        self.max_positions = config.max_position_embeddings
        self.register_buffer(
            "buckets", relative_position_buckets(self.bucket_size, self.max_positions), persistent=False
        )

    def reset_parameters(self) -> None:
        """Fill the table again, as after creation on the meta device."""
        self.buckets.copy_(relative_position_buckets(self.bucket_size, self.max_positions))

    def forward(self, length: int) -> Tensor:
        """`[length, length]` int64: the bucket of query q (rows) and key k (columns).

        Beyond `max_position_embeddings` the table is made for that length, as published: buckets of the same number
        reach to `length` positions, so that wide ones begin farther away. It is not kept.
        """
        table, longest = self.buckets, self.max_positions
        if length > longest:
            table, longest = relative_position_buckets(self.bucket_size, length).to(self.buckets.device), length
        positions = torch.arange(length, device=table.device)
        return table[positions[:, None] - positions[None, :] + longest - 1]


def by_distance(buckets: Tensor) -> Tensor:
    """`[T, T]` buckets of query and key -> `[2 T - 1]` int32, those of the distances `1 - T` to `T - 1`."""
    return torch.cat((buckets[0].flip(0), buckets[1:, 0])).to(torch.int32)


class Attention(nn.Module):
    """Multi-head attention whose scores add content-to-position and position-to-content terms.

    The query and key projection is one matrix, all queries first, then all keys; it projects the relative embeddings,
    too.
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
        self.pre_layer_norm = nn.LayerNorm(size, config.layer_norm_eps, elementwise_affine=False)
        self.post_layer_norm = nn.LayerNorm(size, config.layer_norm_eps)
        # All three dropouts of the block have the rate of the attention's probabilities, as published.
        self.dropout = Dropout(config.attention_probs_dropout_prob, config.kernels)

    def forward(
        self,
        x: Tensor,
        padding: Tensor | None,
        relative: Tensor,
        buckets: Tensor,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Attend.

        Args:
            x: `[B, T, D]`.
            padding: `[B, 1, 1, T]` bool, True at padded keys, or None.
            relative: `[2 * bucket_size - 1, D]` normalized relative embeddings.
            buckets: `[T, T]` int64, row of `relative` for each query and key.
            positions: `[M]` int64, flat in `B * T`, where the result is wanted; None for everywhere.

        Returns:
            `[B, T, D]`, or `[M, D]` at `positions`.
        """
        x = self.pre_layer_norm(x)
        query_key = self.in_proj_qk(x).unflatten(-1, (2, self.heads, self.head_size))
        value = self.in_proj_v(x).unflatten(-1, (self.heads, self.head_size))
        position = self.in_proj_qk(self.dropout(relative)).unflatten(-1, (2, self.heads, self.head_size))
        kernels = resolve_kernels(self.kernels, x)
        dropout = self.attention_dropout if self.training else 0.0
        if kernels == "triton" and supported(query_key, len(position)):
            mask = None if padding is None else padding.flatten(1)
            context = triton_attention(query_key, value, position, by_distance(buckets), mask, self.scale, dropout)
        else:
            attend = plain_attention if kernels == "eager" else torch_attention
            context = attend(query_key, value, position, buckets, padding, self.scale, dropout)
        context = context.flatten(2)
        if positions is not None:
            context = context.flatten(0, 1).index_select(0, positions)
        return self.dropout(self.post_layer_norm(self.out_proj(context)))


def plain_attention(
    query_key: Tensor,
    value: Tensor,
    position: Tensor,
    buckets: Tensor,
    padding: Tensor | None,
    scale: float,
    dropout: float = 0.0,
) -> Tensor:
    """Attend, written out.

    Args:
        query_key: `[B, T, 2, heads, head_size]` queries, then keys.
        value: `[B, T, heads, head_size]`.
        position: `[R, 2, heads, head_size]` queries, then keys, of the relative embeddings.
        buckets: `[T, T]` int64, row of `position` for each query and key.
        padding: `[B, 1, 1, T]` bool, True at padded keys, or None.
        scale: factor of all scores.
        dropout: share of the attention probabilities that is dropped.

    Returns:
        `[B, T, heads, head_size]`.
    """
    query, key = query_key.transpose(1, 3).unbind(2)
    query_position, key_position = (position * scale).transpose(0, 2).unbind(1)
    bias = bias_by_bucket(query, key, query_position, key_position, buckets)
    return softmax_attention(query, key, value, masked(bias, padding), scale, dropout)


def torch_attention(
    query_key: Tensor,
    value: Tensor,
    position: Tensor,
    buckets: Tensor,
    padding: Tensor | None,
    scale: float,
    dropout: float = 0.0,
) -> Tensor:
    """The same as `plain_attention`, in whatever torch offers that is faster."""
    if uses_cpu_attention(query_key):
        return CpuAttention.apply(query_key, value, position, buckets, padding, scale, dropout)
    query, key = query_key.transpose(1, 3).unbind(2)
    # Sequences so short that there are fewer distances than buckets need no look-up.
    look_up = bias_by_distance if 2 * len(buckets) - 1 <= len(position) else bias_by_bucket
    query_position, key_position = (position * scale).transpose(0, 2).unbind(1)
    bias = masked(look_up(query, key, query_position, key_position, buckets), padding)
    # The CPU's fused kernel has no gradient for a bias; what torch falls back to is slower than the plain form.
    if bias.requires_grad and not bias.is_cuda:
        return softmax_attention(query, key, value, bias, scale, dropout, "torch")
    fused = F.scaled_dot_product_attention(query, key, value.transpose(1, 2), bias, dropout, scale=scale)
    return fused.transpose(1, 2)


def uses_cpu_attention(query_key: Tensor) -> bool:
    """Whether `CpuAttention` is what computes `torch_attention`: where gradients are wanted, in wide numbers."""
    wide = query_key.device.type == "cpu" and query_key.dtype in (torch.float32, torch.float64)
    return wide and torch.is_grad_enabled() and not torch.compiler.is_compiling()


def softmax_attention(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor, scale: float, dropout: float, kernels: str = "eager"
) -> Tensor:
    """`[B, heads, T, head_size]` queries and keys, `[B, T, heads, head_size]` values -> as the values."""
    probabilities = torch.softmax(query @ key.transpose(-1, -2) * scale + bias, dim=-1)
    return (drop(probabilities, dropout, True, kernels) @ value.transpose(1, 2)).transpose(1, 2)


def masked(bias: Tensor, padding: Tensor | None) -> Tensor:
    """The lowest finite score at padded keys."""
    return bias if padding is None else bias.masked_fill(padding, torch.finfo(bias.dtype).min)


def bias_by_bucket(query: Tensor, key: Tensor, query_position: Tensor, key_position: Tensor, buckets: Tensor) -> Tensor:
    """`[B, heads, T, T]`: each content against the other side's position, looked up by bucket."""
    index = buckets.expand(*query.shape[:2], -1, -1)
    by_query = (query @ key_position.transpose(-1, -2)).gather(-1, index)
    by_key = (key @ query_position.transpose(-1, -2)).gather(-1, index.transpose(-1, -2)).transpose(-1, -2)
    return by_query + by_key


def bias_by_distance(
    query: Tensor, key: Tensor, query_position: Tensor, key_position: Tensor, buckets: Tensor
) -> Tensor:
    """The same as `bias_by_bucket`, from products with the position of every distance."""
    by_query = query @ key_position[:, by_distance(buckets).flip(0)].transpose(-1, -2)
    by_key = key @ query_position[:, by_distance(buckets)].transpose(-1, -2)
    return skewed(by_query) + skewed(by_key).transpose(-1, -2)


def skewed(x: Tensor) -> Tensor:
    """`[..., T, 2 T - 1]` -> `[..., T, T]`, a view: row i, column j is the old column j - i + T - 1."""
    length = x.shape[-2]
    if length == 1:
        return x
    shape = (length, 2 * length - 2)
    return x.flatten(-2).narrow(-1, length - 1, shape[0] * shape[1]).unflatten(-1, shape)[..., :length]
