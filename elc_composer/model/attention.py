"""Disentangled attention (He et al. 2021) with log-bucketed relative positions, as LTG-BERT uses it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .configuration_elc import ElcConfig
from .kernels import resolve_kernels


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
    # The published table was computed in float32 on the CPU; borders between buckets depend on it.
    distance = torch.arange(1 - max_positions, max_positions, device="cpu")
    exact = bucket_size // 2
    size = distance.abs().clamp(min=1)
    growth = torch.log(size / exact) / math.log((max_positions - 1) / exact)
    wide = (torch.ceil(growth * (exact - 1)) + exact).long()
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
        """`[length, length]` int64: the bucket of query q (rows) and key k (columns)."""
        positions = torch.arange(length, device=self.buckets.device)
        return self.buckets[positions[:, None] - positions[None, :] + self.max_positions - 1]


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
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, padding: Tensor | None, relative: Tensor, buckets: Tensor) -> Tensor:
        """Attend.

        Args:
            x: `[B, T, D]`.
            padding: `[B, 1, 1, T]` bool, True at padded keys, or None.
            relative: `[2 * bucket_size - 1, D]` normalized relative embeddings.
            buckets: `[T, T]` int64, row of `relative` for each query and key.

        Returns:
            `[B, T, D]`.
        """
        x = self.pre_layer_norm(x)
        query, key = (self._split(part) for part in self.in_proj_qk(x).chunk(2, dim=-1))
        value = self._split(self.in_proj_v(x))
        query_position, key_position = (
            self._split(part) for part in self.in_proj_qk(self.dropout(relative)).chunk(2, dim=-1)
        )
        bias = self._position_bias(query, key, query_position, key_position, buckets)
        if padding is not None:
            bias = bias.masked_fill(padding, torch.finfo(bias.dtype).min)
        dropout = self.attention_dropout if self.training else 0.0
        if resolve_kernels(self.kernels, x) != "eager":
            context = F.scaled_dot_product_attention(query, key, value, bias, dropout, scale=self.scale)
        else:
            scores = torch.softmax(query @ key.transpose(-1, -2) * self.scale + bias, dim=-1)
            context = F.dropout(scores, dropout, self.training) @ value
        context = context.transpose(1, 2).flatten(2)
        return self.dropout(self.post_layer_norm(self.out_proj(context)))

    def _split(self, x: Tensor) -> Tensor:
        """`[..., T, D]` -> `[..., heads, T, head_size]`."""
        return x.unflatten(-1, (self.heads, self.head_size)).transpose(-2, -3)

    def _position_bias(
        self, query: Tensor, key: Tensor, query_position: Tensor, key_position: Tensor, buckets: Tensor
    ) -> Tensor:
        """`[B, heads, T, T]`: each content against the other side's position, looked up by bucket."""
        content_to_position = query @ (key_position * self.scale).transpose(-1, -2)
        position_to_content = key @ (query_position * self.scale).transpose(-1, -2)
        index = buckets.expand(query.shape[0], self.heads, -1, -1)
        by_query = content_to_position.gather(-1, index)
        by_key = position_to_content.gather(-1, index.transpose(-1, -2)).transpose(-1, -2)
        return by_query + by_key
