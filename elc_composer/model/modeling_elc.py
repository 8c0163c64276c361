"""ELC-BERT as transformers models: the encoder alone, and with the masked-language-model head."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, MaskedLMOutput

from .attention import RelativePositions
from .attention_mask import masked_keys, prepare_mask
from .call_arguments import WantedOutputs, refuse_token_types, sequence_shape
from .configuration_elc import ElcConfig
from .dropout import Dropout
from .encoder import ElcLayer, Embedding, Encoder
from .kernels import resolve_kernels
from .layer_norm import LayerNorm
from .losses import cross_entropy

ATTENTION_KERNELS = {"sdpa": "torch", "eager": "eager"}
"""`kernels` for each name of transformers' `attn_implementation`."""

if TYPE_CHECKING:
    # transformers (4.57) copies only the files of an exported folder that this file imports.
    from .compiled_layers import CompiledLayers
    from .cpu_attention import CpuAttention  # noqa: F401
    from .layer_mixing import linked_mix  # noqa: F401
    from .triton_attention import triton_attention  # noqa: F401
    from .triton_attention_kernels import forward_kernel  # noqa: F401
    from .triton_attention_saved_kernels import one_hot_kernel  # noqa: F401
    from .triton_mixing import weighted_sum  # noqa: F401


class PredictionHead(nn.Module):
    """Projects hidden states to logits: of tokens (the last matrix is then tied to the word embedding) or of labels."""

    def __init__(self, config: ElcConfig, outputs: int, dropout: float) -> None:
        super().__init__()
        size, eps, dtype = config.hidden_size, config.layer_norm_eps, config.layer_norm_dtype
        self.nonlinearity = nn.Sequential(
            LayerNorm(size, eps, dtype, elementwise_affine=False),
            nn.Linear(size, size),
            nn.GELU(),
            LayerNorm(size, eps, dtype, elementwise_affine=False),
            Dropout(dropout, config.kernels),
            nn.Linear(size, outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """`[..., D]` -> `[..., outputs]`."""
        return self.nonlinearity(x)


class ElcModel(PreTrainedModel):
    """ELC-BERT without a head."""

    config_class = ElcConfig
    base_model_prefix = "elc"
    """No submodule's name: all classes name the encoder's parameters alike, so that each loads the others' files."""
    main_input_name = "input_ids"
    _no_split_modules = ["ElcLayer"]  # noqa: RUF012 (transformers declares it without an annotation)
    _keys_to_ignore_on_load_unexpected: Any = [r"^classifier\.", r"^head\."]  # noqa: RUF012
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    takes_any_length = True
    """Any sequence length is supported; beyond `max_position_embeddings` the position buckets depend on the length."""

    def __init__(self, config: ElcConfig, **kwargs: Any) -> None:
        # None unless the caller chose: transformers then fills in its default, which must not choose kernels.
        asked = config._attn_implementation
        super().__init__(config, **kwargs)
        if asked is None:
            config._attn_implementation = None
        elif asked in ATTENTION_KERNELS:
            config.kernels = ATTENTION_KERNELS[asked]
        self.embedding = Embedding(config)
        self.transformer = Encoder(config)
        if type(self) is ElcModel:
            self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The word embedding."""
        return self.embedding.word_embedding

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the word embedding."""
        assert isinstance(value, nn.Embedding)
        self.embedding.word_embedding = value

    def compile_layers(self, backend: str | Callable[..., Any] = "inductor") -> CompiledLayers:
        """From now on run the layers compiled in training; see `CompiledLayers`, which is returned.

        Parameters keep their names. A copy of the model, its saved form and its exported form are not compiled.
        """
        return self.transformer.compile_layers(backend)

    def set_attn_implementation(self, attn_implementation: Any, *args: Any, **kwargs: Any) -> None:
        """Choose the kernels by transformers' names: `sdpa` is `torch`, `eager` is `eager`.

        Raises:
            ValueError: another name.
        """
        if attn_implementation not in ATTENTION_KERNELS:
            allowed = " or ".join(ATTENTION_KERNELS)
            raise ValueError(f"attn_implementation is '{attn_implementation}'; ELC-BERT has {allowed}")
        self.config._attn_implementation = attn_implementation
        kernels = ATTENTION_KERNELS[attn_implementation]
        for holder in (self.config, *self.modules()):
            if hasattr(holder, "kernels"):
                holder.kernels = kernels

    def gradient_checkpointing_enable(
        self, gradient_checkpointing_kwargs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Recompute each layer in the backward pass: its input is kept, what is in it is not.

        Args:
            gradient_checkpointing_kwargs: arguments of `torch.utils.checkpoint.checkpoint`.
            **kwargs: what this version of transformers' method also takes.

        Raises:
            ValueError: `use_reentrant=True`, which loses gradients of earlier outputs; `every_n_layers` other than 1.
        """
        chosen = {"use_reentrant": False, **(gradient_checkpointing_kwargs or {})}
        if chosen["use_reentrant"]:
            raise ValueError("use_reentrant must be False: ELC-BERT's layers read all earlier outputs; leave it out")
        if kwargs.get("every_n_layers", 1) != 1:
            raise ValueError("every_n_layers must be 1: all layers are recomputed or none")
        super().gradient_checkpointing_enable(chosen, **kwargs)

    def encode(
        self,
        input_ids: Tensor | None,
        attention_mask: Tensor | None = None,
        positions: Tensor | None = None,
        probabilities: list[Tensor] | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """All states `[B, T, D]`: embedding output, each layer's output, and the head's mix where the variant has one.

        Args:
            input_ids: `[B, T]` int64, or None with `inputs_embeds`.
            attention_mask: `[B, T]`, nonzero at real tokens; or a dense mask, see `prepare_mask`. None keeps all.
            positions: `[M]` int64, flat in `B * T`: compute the last state there only, `[M, D]`.
            probabilities: each layer's attention probabilities `[B, heads, T, T]` are appended to this list.
            inputs_embeds: `[B, T, D]` in place of the rows of the word embedding, before its LayerNorm.

        Raises:
            ValueError: a mask of another shape or dtype, or not one of `input_ids` and `inputs_embeds`.
        """
        batch, length = sequence_shape(input_ids, inputs_embeds)
        mask = prepare_mask(attention_mask, batch, length, self.config.num_attention_heads)
        embedded, relative = self.embedding(input_ids, inputs_embeds)
        # By name: callbacks that measure mixes look for `positions` among the keyword arguments.
        return self.transformer(embedded, mask, relative, positions=positions, probabilities=probabilities)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> BaseModelOutput | tuple[Any, ...]:
        """Last hidden state `[B, T, D]`; on request all states and the attention probabilities.

        Args:
            input_ids: `[B, T]` int64.
            attention_mask: as in `encode`.
            token_type_ids: zeros or None; tokenizers give them, the model has only one type.
            output_attentions: return `attentions`, one `[B, heads, T, T]` a layer; attention then takes its eager form.
            output_hidden_states: return `hidden_states`, L+1 tensors `[B, T, D]` (one more where the head has a mix).
            return_dict: False for a tuple of what is not None. These three default to the config's values.
            inputs_embeds: `[B, T, D]` in place of the rows of the word embedding; `input_ids` is then None.

        Raises:
            ValueError: a mask of another shape or dtype, token types other than 0, or both or none of the inputs.
        """
        refuse_token_types(token_type_ids)
        wanted = self.wanted_outputs(output_attentions, output_hidden_states, return_dict)
        x, extras = self.read_states(wanted, input_ids, inputs_embeds, attention_mask)
        output = BaseModelOutput(last_hidden_state=cast(Any, x), **extras)
        return output if wanted.as_dict else output.to_tuple()

    def read_states(
        self,
        wanted: WantedOutputs,
        input_ids: Tensor | None,
        inputs_embeds: Tensor | None,
        attention_mask: Tensor | None,
        positions: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Any]]:
        """The last state `[B, T, D]`, or `[M, D]` at `positions`; and the states and attentions that are wanted."""
        probe = inputs_embeds if input_ids is None else input_ids
        # The eager form computes everything, and picks.
        eager = probe is not None and resolve_kernels(self.config.kernels, probe) == "eager"
        whole = positions is None or wanted.hidden_states or wanted.attentions or eager
        probabilities: list[Tensor] | None = [] if wanted.attentions else None
        states = self.encode(input_ids, attention_mask, None if whole else positions, probabilities, inputs_embeds)
        x = states[-1]
        if positions is not None and whole:
            x = x.flatten(0, 1).index_select(0, positions)
        return x, wanted.extras(states, probabilities)

    def token_read(
        self, input_ids: Tensor | None, inputs_embeds: Tensor | None, attention_mask: Tensor | None
    ) -> Tensor:
        """`[B]` int64: where `config.classifier_token` is, the first or last token that some query may read.

        Flat in `B * T`. The mask decides, not the ids: [PAD] without a mask is a token as any other.
        """
        batch, length = sequence_shape(input_ids, inputs_embeds)
        device = self.embedding.word_embedding.weight.device if input_ids is None else input_ids.device
        rows = torch.arange(batch, device=device) * length
        last = self.config.classifier_token == "last"
        mask = prepare_mask(attention_mask, batch, length, self.config.num_attention_heads)
        if mask is None:
            return rows + (length - 1 if last else 0)
        real = ~masked_keys(mask).all(2).all(1)
        columns = torch.arange(length, device=device)
        # argmax takes the first of equal ones.
        return rows + (torch.where(real, columns, 0).amax(-1) if last else real.int().argmax(-1))

    def wanted_outputs(
        self, attentions: bool | None, hidden_states: bool | None, as_dict: bool | None
    ) -> WantedOutputs:
        """What a call returns: its arguments, or the config's values where they are None."""
        config = self.config
        return WantedOutputs(
            config.output_attentions if attentions is None else attentions,
            config.output_hidden_states if hidden_states is None else hidden_states,
            config.return_dict if as_dict is None else as_dict,
        )

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialize one module's own parameters; called for every module, also after creation on the meta device.

        Matrices: normal with std sqrt(2 / (5 D)), truncated at two standard deviations; layer i's feed-forward times
        sqrt(1 / (2 (1 + i))); biases 0; layer weights as `ElcConfig.layer_mixing` says.
        """
        std = math.sqrt(2.0 / (5.0 * self.config.hidden_size)) * getattr(module, "init_scale", 1.0)
        draw = partial(nn.init.trunc_normal_, std=std, a=-2 * std, b=2 * std)
        if isinstance(module, (nn.Linear, nn.Embedding)):
            fill_whole(module.weight, draw)
            if getattr(module, "bias", None) is not None:
                nn.init.zeros_(cast(Tensor, module.bias))
        elif isinstance(module, nn.LayerNorm) and module.elementwise_affine:
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, Embedding):
            fill_whole(module.relative_embedding, draw)
        elif isinstance(module, RelativePositions):
            module.reset_parameters()
        elif isinstance(module, (ElcLayer, Encoder)) and hasattr(module, "prev_layer_weights"):
            fill_whole(module.prev_layer_weights, self._init_layer_weights)

    def _init_layer_weights(self, weights: Tensor) -> None:
        weights.zero_()
        weights[-1] = self.config.mixing_rule.previous_layer_init


def fill_whole(parameter: Tensor, fill: Callable[[Tensor], object]) -> None:
    """Run an in-place initializer on a whole parameter, also if it is a DTensor of which each rank holds a shard.

    If each rank drew its own shard, ranks with equal random states would draw equal numbers.
    """
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(parameter, DTensor):
        fill(parameter)
        return
    whole = torch.empty(parameter.shape, dtype=parameter.dtype, device=parameter.device)
    fill(whole)
    parameter.copy_(distribute_tensor(whole, parameter.device_mesh, parameter.placements))


class ElcForMaskedLM(ElcModel):
    """ELC-BERT with its masked-language-model head; parameters are named as in the published checkpoints."""

    accepts_loss_kwargs = True
    """Tells transformers' Trainer to pass `num_items_in_batch`."""
    _keys_to_ignore_on_load_unexpected = [r"^head\."]  # noqa: RUF012 (transformers declares it so)
    # transformers 4 reads the keys, transformers 5 the mapping.
    _tied_weights_keys: Any = {  # noqa: RUF012
        "classifier.nonlinearity.5.weight": "embedding.word_embedding.weight"
    }

    def __init__(self, config: ElcConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.classifier = PredictionHead(config, config.vocab_size, config.hidden_dropout_prob)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        """The projection to the vocabulary."""
        return self.classifier.nonlinearity[-1]

    def set_output_embeddings(self, value: nn.Module) -> None:
        """Replace the projection to the vocabulary."""
        self.classifier.nonlinearity[-1] = value

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        masked_positions: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> MaskedLMOutput | tuple[Any, ...]:
        """Predict tokens; unnamed arguments are those of `ElcModel.forward`.

        Args:
            input_ids: `[B, T]` int64.
            attention_mask: `[B, T]`, nonzero at real tokens; None means that all are.
            labels: `[B, T]` int64, -100 where nothing is predicted.
            token_type_ids: zeros or None.
            masked_positions: `[M]` int64, distinct positions in the flattened `[B * T]` at which alone the head runs;
                so does what follows attention in the last layer, unless states or attentions are asked for.
            num_items_in_batch: labelled positions of all microbatches of a step, which the loss is divided by in
                place of its own count. transformers' Trainer gives it, so that accumulated gradients add up to those
                of one batch.
            output_attentions: as in `ElcModel.forward`.
            output_hidden_states: as in `ElcModel.forward`.
            return_dict: as in `ElcModel.forward`.
            inputs_embeds: as in `ElcModel.forward`.

        Returns:
            `logits` `[B, T, V]`, or `[M, V]` with `masked_positions`; `loss`, the mean cross-entropy in nats over
            labelled positions, if labels were given; `hidden_states` and `attentions` on request.

        Raises:
            ValueError: a mask of another shape or dtype, or token types other than 0.
        """
        refuse_token_types(token_type_ids)
        wanted = self.wanted_outputs(output_attentions, output_hidden_states, return_dict)
        x, extras = self.read_states(wanted, input_ids, inputs_embeds, attention_mask, masked_positions)
        if masked_positions is not None and labels is not None:
            labels = labels.flatten().index_select(0, masked_positions)
        logits = self.classifier(x)
        loss = None if labels is None else cross_entropy(logits, labels, num_items_in_batch)
        output = MaskedLMOutput(loss=cast(Any, loss), logits=logits, **extras)
        return output if wanted.as_dict else output.to_tuple()

    def estimate_flops(self, batch_size: int, length: int, predicted: int | None = None) -> int:
        """Floating-point operations of one training step: matrix products only, backward at twice the forward.

        Args:
            batch_size: sequences.
            length: tokens of each, padding included.
            predicted: positions at which the head runs and the last layer ends; None means all.
        """
        config = self.config
        size, inner, buckets = config.hidden_size, config.intermediate_size, 2 * config.position_bucket_size - 1
        tokens = batch_size * length
        predicted = tokens if predicted is None else predicted
        projections = 2 * 3 * size * size
        after_attention = 2 * (size * size + 3 * size * inner)
        attention = (4 * length + 4 * buckets) * size
        positions = 4 * size * size * buckets
        everywhere = config.num_hidden_layers * ((projections + attention) * tokens + positions)
        where_read = after_attention * ((config.num_hidden_layers - 1) * tokens + predicted)
        head = 2 * size * (size + config.vocab_size) * predicted
        return 3 * (everywhere + where_read + head)
