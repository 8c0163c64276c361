"""Embedding and encoder: layers that read mixes of all earlier outputs, and the mix of the head."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .attention import Attention, RelativePositions
from .compiled_layers import CompiledLayers
from .configuration_elc import ElcConfig
from .dropout import Dropout
from .layer_mixing import Links, linked_mix
from .layer_norm import LayerNorm, layer_norm


class Embedding(nn.Module):
    """Normalized token embeddings, and the relative-position embeddings that all layers share."""

    def __init__(self, config: ElcConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.word_embedding = nn.Embedding(config.vocab_size, size)
        self.word_layer_norm = LayerNorm(size, config.layer_norm_eps, config.layer_norm_dtype, elementwise_affine=False)
        self.relative_embedding = nn.Parameter(torch.empty(2 * config.position_bucket_size - 1, size))
        self.relative_layer_norm = LayerNorm(size, config.layer_norm_eps, config.layer_norm_dtype)
        self.dropout = Dropout(config.hidden_dropout_prob, config.kernels)

    def forward(self, input_ids: Tensor | None, inputs_embeds: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`[B, T]` ids, or `[B, T, D]` in place of their embeddings -> `[B, T, D]` and `[2 * bucket_size - 1, D]`."""
        rows = self.word_embedding(input_ids) if inputs_embeds is None else inputs_embeds
        words = self.dropout(self.word_layer_norm(rows))
        return words, self.relative_layer_norm(self.relative_embedding)


class GatedGelu(nn.Module):
    """First half times the tanh-approximated GELU of the second half (Shazeer 2020)."""

    def forward(self, x: Tensor) -> Tensor:
        """`[..., 2 F]` -> `[..., F]`."""
        value, gate = x.chunk(2, dim=-1)
        return value * F.gelu(gate, approximate="tanh")


class ScaledInitLinear(nn.Linear):
    """Matrix without bias, initialized smaller in deeper layers: times sqrt(1 / (2 (1 + layer)))."""

    def __init__(self, inputs: int, outputs: int, layer: int) -> None:
        super().__init__(inputs, outputs, bias=False)
        self.init_scale = math.sqrt(1.0 / (2.0 * (1.0 + layer)))


class FeedForward(nn.Module):
    """Gated feed-forward between two LayerNorms without parameters."""

    def __init__(self, config: ElcConfig, layer: int) -> None:
        super().__init__()
        hidden, inner, eps = config.hidden_size, config.intermediate_size, config.layer_norm_eps
        dtype = config.layer_norm_dtype
        self.mlp = nn.Sequential(
            LayerNorm(hidden, eps, dtype, elementwise_affine=False),
            ScaledInitLinear(hidden, 2 * inner, layer),
            GatedGelu(),
            LayerNorm(inner, eps, dtype, elementwise_affine=False),
            ScaledInitLinear(inner, hidden, layer),
            Dropout(config.hidden_dropout_prob, config.kernels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """`[B, T, D]` -> `[B, T, D]`."""
        return self.mlp(x)


class ElcLayer(nn.Module):
    """One layer: reads all earlier outputs and returns its own."""

    def __init__(self, config: ElcConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.rule = config.mixing_rule
        self.readers = config.num_hidden_layers + self.rule.mixed_output
        self.kernels = config.kernels
        self.layer_norm_eps = config.layer_norm_eps
        self.layer_norm_dtype = config.layer_norm_dtype
        self.compiled: CompiledLayers | None = None
        self.attention = Attention(config)
        self.mlp = FeedForward(config, layer)
        if self.rule.learned:
            self.prev_layer_weights = nn.Parameter(torch.empty(layer + 1))

    def forward(
        self,
        states: tuple[Tensor, ...],
        mask: Tensor | None,
        relative: Tensor,
        buckets: Tensor,
        links: Links = (),
        positions: Tensor | None = None,
        probabilities: list[Tensor] | None = None,
    ) -> tuple[Tensor, Links]:
        """`layer + 1` tensors `[B, T, D]` -> `[B, T, D]`, and the next layer's `links`.

        `states` and `links` are those of `linked_mix`, the other arguments those of `Attention.forward`. With
        `positions` `[M]`, flat in `B * T`, queries are computed everywhere, but the rest of the layer at these
        positions only: `[M, D]`.
        """
        x = states[-1]
        if self.rule.learned:
            x, links = linked_mix(states, self.prev_layer_weights, links, self.readers, self.kernels)
        if self.compiled is not None and probabilities is None and self.training and torch.is_grad_enabled():
            return self.compiled(self, x, mask, relative, buckets, positions), links
        return self.after_mix(x, mask, relative, buckets, positions, probabilities), links

    def after_mix(
        self,
        x: Tensor,
        mask: Tensor | None,
        relative: Tensor,
        buckets: Tensor,
        positions: Tensor | None = None,
        probabilities: list[Tensor] | None = None,
        normed: Tensor | None = None,
    ) -> Tensor:
        """The layer's output from its mix `x` `[B, T, D]`; arguments of `Attention.forward`. Compiled in training."""
        attended = self.attention(x, mask, relative, buckets, positions, probabilities, normed)
        if positions is not None:
            x = x.flatten(0, 1).index_select(0, positions)
        summed = x + attended if self.rule.mlp_reads_input else attended
        output = (summed if self.rule.residual else attended) + self.mlp(summed)
        if self.rule.normalized:
            output = layer_norm(output, self.layer_norm_eps, self.layer_norm_dtype)
        return output

    def __getstate__(self) -> dict[str, Any]:
        # Compiled code cannot be pickled. Copies run uncompiled.
        return {**self.__dict__, "compiled": None}


class Encoder(nn.Module):
    """All layers, and the mix of the head for the variant that has one."""

    _gradient_checkpointing_func: Callable[..., tuple[Tensor, Links]]
    """Calls a layer and recomputes it in the backward pass; transformers sets it with `gradient_checkpointing`."""

    def __init__(self, config: ElcConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(ElcLayer(config, layer) for layer in range(config.num_hidden_layers))
        self.relative_positions = RelativePositions(config)
        self.kernels = config.kernels
        self.gradient_checkpointing = False
        if config.mixing_rule.mixed_output:
            self.prev_layer_weights = nn.Parameter(torch.empty(config.num_hidden_layers + 1))

    def compile_layers(self, backend: str | Callable[..., Any]) -> CompiledLayers:
        """Run what follows the mix in each layer compiled, in training."""
        compiled = CompiledLayers(ElcLayer.after_mix, backend)
        for layer in self.modules():
            if isinstance(layer, ElcLayer):
                layer.compiled = compiled
        return compiled

    def forward(
        self,
        embedded: Tensor,
        mask: Tensor | None,
        relative: Tensor,
        positions: Tensor | None = None,
        probabilities: list[Tensor] | None = None,
    ) -> tuple[Tensor, ...]:
        """`[B, T, D]` -> L+1 states `[B, T, D]`, and the final mix as one more for the variant that has it.

        With `positions` `[M]`, flat in `B * T`, the last state is `[M, D]`: the input of the head at these positions.
        The last layer's output elsewhere is not needed and not computed. Each layer appends its attention
        probabilities to the list `probabilities`, if given.
        """
        buckets = self.relative_positions(embedded.shape[1])
        states = [embedded]
        detached: list[Tensor] = []
        links: Links = ()

        def readable() -> tuple[Tensor, ...]:
            # When gradients travel through `links`, earlier states are passed detached: their gradient arrives through
            # the links, not through this layer.
            return (*detached, states[-1]) if links else tuple(states)

        # A recomputed layer would append its probabilities again; they are as large as what checkpointing saves.
        recompute = self.gradient_checkpointing and self.training and probabilities is None
        for number, layer in enumerate(self.layers, start=1):
            wanted = positions if number == len(self.layers) else None
            arguments = (readable(), mask, relative, buckets, links, wanted, probabilities)
            if recompute:
                output, links = self._gradient_checkpointing_func(layer.__call__, *arguments)
            else:
                output, links = layer(*arguments)
            detached.append(states[-1].detach())
            states.append(output)
        if hasattr(self, "prev_layer_weights"):
            if positions is not None:
                last = states[-1]
                everywhere = last.new_zeros(embedded.shape).flatten(0, 1)
                states[-1] = everywhere.index_copy(0, positions, last).view(embedded.shape)
            mixed, _ = linked_mix(readable(), self.prev_layer_weights, links, len(states), self.kernels)
            states.append(mixed if positions is None else mixed.flatten(0, 1).index_select(0, positions))
        return tuple(states)
