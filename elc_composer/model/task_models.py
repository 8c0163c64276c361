"""ELC-BERT with heads for fine-tuning; their parameters are named as in the published checkpoints, under `head.`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from torch import Tensor, nn
from transformers.modeling_outputs import (
    MultipleChoiceModelOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)

from .call_arguments import refuse_token_types
from .configuration_elc import ElcConfig
from .losses import cross_entropy, problem_type, sequence_loss, span_loss
from .modeling_elc import ElcModel, PredictionHead

if TYPE_CHECKING:
    # transformers (4.57) copies only the files of an exported folder that this file imports.
    from .attention import Attention  # noqa: F401
    from .attention_mask import prepare_mask  # noqa: F401
    from .compiled_layers import CompiledLayers  # noqa: F401
    from .cpu_attention import CpuAttention  # noqa: F401
    from .dropout import Dropout  # noqa: F401
    from .encoder import Encoder  # noqa: F401
    from .kernels import resolve_kernels  # noqa: F401
    from .layer_mixing import linked_mix  # noqa: F401
    from .layer_norm import LayerNorm  # noqa: F401
    from .triton_attention import triton_attention  # noqa: F401
    from .triton_attention_kernels import forward_kernel  # noqa: F401
    from .triton_attention_saved_kernels import one_hot_kernel  # noqa: F401
    from .triton_mixing import weighted_sum  # noqa: F401


class ElcTaskModel(ElcModel):
    """An encoder with a head of some number of outputs; the classes below say what it reads and predicts."""

    accepts_loss_kwargs = True
    """Tells transformers' Trainer to pass `num_items_in_batch`."""
    _keys_to_ignore_on_load_unexpected = [r"^classifier\."]  # noqa: RUF012 (transformers declares it so)

    def __init__(self, config: ElcConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.num_labels = config.num_labels
        dropout = config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout
        self.head: nn.Module = PredictionHead(config, self.outputs(config), dropout)
        self.post_init()

    @staticmethod
    def outputs(config: ElcConfig) -> int:
        """Numbers that the head predicts where it is read."""
        return config.num_labels


class ElcForSequenceClassification(ElcTaskModel):
    """Classifies a sequence, or predicts numbers from it, at its first or last real token."""

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> SequenceClassifierOutput | tuple[Any, ...]:
        """Predict; unnamed arguments are those of `ElcModel.forward`.

        Args:
            input_ids: `[B, T]` int64.
            attention_mask: any form that `ElcModel.encode` takes. It alone decides which tokens are real.
            token_type_ids: zeros or None.
            inputs_embeds: as in `ElcModel.forward`.
            labels: `[B]` classes, or numbers `[B]` or `[B, num_labels]`. Without `config.problem_type` the number of
                labels and their dtype choose the loss, and the config keeps the choice, as in transformers.
            num_items_in_batch: labels of all microbatches of a step, which the loss is divided by.
            output_attentions: as in `ElcModel.forward`.
            output_hidden_states: as in `ElcModel.forward`.
            return_dict: as in `ElcModel.forward`.

        Returns:
            `logits` `[B, num_labels]`; `loss` if labels were given; `hidden_states` and `attentions` on request.

        Raises:
            ValueError: a mask, labels or a problem type that do not fit, or token types other than 0.
        """
        refuse_token_types(token_type_ids)
        wanted = self.wanted_outputs(output_attentions, output_hidden_states, return_dict)
        where = self.token_read(input_ids, inputs_embeds, attention_mask)
        x, extras = self.read_states(wanted, input_ids, inputs_embeds, attention_mask, where)
        logits = self.head(x)
        loss = None
        if labels is not None:
            problem = problem_type(self.config.problem_type, self.config.num_labels, labels.dtype)
            self.config.problem_type = problem
            loss = sequence_loss(problem, logits, labels, num_items_in_batch)
        output = SequenceClassifierOutput(loss=cast(Any, loss), logits=logits, **extras)
        return output if wanted.as_dict else output.to_tuple()


class ElcForTokenClassification(ElcTaskModel):
    """Classifies each token."""

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> TokenClassifierOutput | tuple[Any, ...]:
        """Predict; arguments as in `ElcForSequenceClassification.forward`; `labels` `[B, T]`, -100 for none.

        Returns:
            `logits` `[B, T, num_labels]`; `loss`, the mean cross-entropy over labelled tokens, if labels were given;
            `hidden_states` and `attentions` on request.
        """
        refuse_token_types(token_type_ids)
        wanted = self.wanted_outputs(output_attentions, output_hidden_states, return_dict)
        x, extras = self.read_states(wanted, input_ids, inputs_embeds, attention_mask)
        logits = self.head(x)
        loss = None if labels is None else cross_entropy(logits, labels, num_items_in_batch)
        output = TokenClassifierOutput(loss=cast(Any, loss), logits=logits, **extras)
        return output if wanted.as_dict else output.to_tuple()


class ElcForQuestionAnswering(ElcTaskModel):
    """Finds the span of a text that answers a question."""

    @staticmethod
    def outputs(config: ElcConfig) -> int:
        """Two: the logits of the span's first and last token."""
        return 2

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> QuestionAnsweringModelOutput | tuple[Any, ...]:
        """Predict; unnamed arguments are those of `ElcForSequenceClassification.forward`.

        `start_positions` and `end_positions` `[B]`: positions from 0; those beyond the sequence have no loss.

        Returns:
            `start_logits` and `end_logits` `[B, T]`; `loss` if both positions were given; `hidden_states` and
            `attentions` on request.
        """
        refuse_token_types(token_type_ids)
        wanted = self.wanted_outputs(output_attentions, output_hidden_states, return_dict)
        x, extras = self.read_states(wanted, input_ids, inputs_embeds, attention_mask)
        start, end = self.head(x).unbind(-1)
        loss = None
        if start_positions is not None and end_positions is not None:
            loss = span_loss(start, end, start_positions, end_positions, num_items_in_batch)
        output = QuestionAnsweringModelOutput(loss=cast(Any, loss), start_logits=start, end_logits=end, **extras)
        return output if wanted.as_dict else output.to_tuple()


class ElcForMultipleChoice(ElcTaskModel):
    """Picks one of several sequences."""

    @staticmethod
    def outputs(config: ElcConfig) -> int:
        """One: a sequence's score."""
        return 1

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> MultipleChoiceModelOutput | tuple[Any, ...]:
        """Predict; arguments are those of `ElcForSequenceClassification.forward` with a dimension of C choices.

        `input_ids` and `attention_mask` `[B, C, T]`, `inputs_embeds` `[B, C, T, D]`, `labels` `[B]` the right choice.

        Returns:
            `logits` `[B, C]`; `loss`, the mean cross-entropy, if labels were given; `hidden_states` and `attentions` of
            the B * C sequences on request.

        Raises:
            ValueError: inputs without a dimension of choices, or as in `ElcForSequenceClassification.forward`.
        """
        given = inputs_embeds if input_ids is None else input_ids
        if given is None or given.dim() != (4 if input_ids is None else 3):
            raise ValueError("multiple choice takes input_ids [B, C, T] or inputs_embeds [B, C, T, D]")
        choices = given.shape[1]
        flat = [
            None if each is None else each.flatten(0, 1)
            for each in (input_ids, attention_mask, token_type_ids, inputs_embeds)
        ]
        ids, mask, types, embeds = flat
        refuse_token_types(types)
        wanted = self.wanted_outputs(output_attentions, output_hidden_states, return_dict)
        where = self.token_read(ids, embeds, mask)
        x, extras = self.read_states(wanted, ids, embeds, mask, where)
        logits = self.head(x).view(-1, choices)
        loss = None if labels is None else cross_entropy(logits, labels, num_items_in_batch)
        output = MultipleChoiceModelOutput(loss=cast(Any, loss), logits=logits, **extras)
        return output if wanted.as_dict else output.to_tuple()


TASK_MODELS: dict[str, type[ElcTaskModel]] = {
    "AutoModelForSequenceClassification": ElcForSequenceClassification,
    "AutoModelForTokenClassification": ElcForTokenClassification,
    "AutoModelForQuestionAnswering": ElcForQuestionAnswering,
    "AutoModelForMultipleChoice": ElcForMultipleChoice,
}
"""transformers' class for each."""
