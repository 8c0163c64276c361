"""The model as a ComposerModel: loss, evaluation metrics, FLOPs, and the units of sharding and checkpointing."""

from __future__ import annotations

from typing import Any

import torch
from composer import ComposerModel
from composer.metrics import LanguageCrossEntropy, LanguagePerplexity, MaskedAccuracy
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric
from transformers.modeling_outputs import MaskedLMOutput

from elc_composer.model import ElcForMaskedLM
from elc_composer.model.encoder import ElcLayer

Batch = dict[str, Any]


class ElcComposerModel(ComposerModel):
    """Masked-language modelling with an `ElcForMaskedLM`.

    A batch is a dict of `input_ids` `[B, T]` int64, `attention_mask` `[B, T]` bool and `labels` `[B, T]` int64, -100
    where nothing is predicted. The head runs at the positions `masked_positions` `[M]` of the batch (flat in B * T, all
    labels among them; see `LabelPositions`). Without that key it runs at the labelled positions, and finding them makes
    the host wait for the device. The loss is the mean cross-entropy in nats over the labels of the batch. With
    `Trainer(accumulate_train_batch_on_tokens=True)` and `count_tokens` in the DataSpec it is the mean over the labels
    of the global batch, however that is split into microbatches and over ranks. `label_smoothing` applies to the
    training loss only.

    Evaluation metrics are `LanguageCrossEntropy`, `LanguagePerplexity`, `MaskedAccuracy`, and those given as `metrics`.
    A metric with a true attribute `takes_batch` gets each batch through `metric.update(batch, outputs)`.
    """

    def __init__(
        self, model: ElcForMaskedLM, metrics: dict[str, Metric] | None = None, label_smoothing: float = 0.0
    ) -> None:
        super().__init__()
        self.model = model
        self.label_smoothing = label_smoothing
        self.eval_metrics: dict[str, Metric] = {
            **language_metrics(),
            **(metrics or {}),
        }
        # Composer looks these hooks up on the wrapped model, not on the ComposerModel. setattr keeps them out of the
        # model's own code, which is exported.
        for hook in ("fsdp_wrap_fn", "activation_checkpointing_fn"):
            setattr(self.model, hook, is_layer)
        setattr(self.model, "param_init_fn", self.model._init_weights)  # noqa: B010

    def forward(self, batch: Batch) -> MaskedLMOutput:
        """Run the encoder on all positions and the head on labelled ones: `logits` `[M, V]`, `loss`."""
        # With smoothing, `loss` computes the training loss from the logits.
        labels = None if self.smooths() else batch["labels"]
        positions = label_positions(batch)
        return self.model(
            batch["input_ids"], batch["attention_mask"], labels, masked_positions=positions, return_dict=True
        )

    def smooths(self) -> bool:
        """Whether labels are smoothed now: in training only."""
        return self.training and self.label_smoothing > 0

    def loss(self, outputs: MaskedLMOutput, batch: Batch, *args: Any, **kwargs: Any) -> Tensor:
        """Mean cross-entropy in nats over labelled positions; 0 where a microbatch has none.

        In training, `label_smoothing` of each label's probability is spread evenly over the vocabulary.
        """
        if self.smooths():
            assert outputs.logits is not None
            labels = batch["labels"].flatten()[label_positions(batch)]
            total = F.cross_entropy(outputs.logits, labels, reduction="sum", label_smoothing=self.label_smoothing)
            return total / (labels != -100).sum().clamp(min=1)
        assert outputs.loss is not None
        return outputs.loss

    def get_metrics(self, is_train: bool = False) -> dict[str, Metric]:
        """The evaluation metrics; none for training, where Composer's metrics synchronize the device in each step.

        The callback `StepMetrics` logs the accuracy of training steps.
        """
        return {} if is_train else self.eval_metrics

    def update_metric(self, batch: Batch, outputs: MaskedLMOutput, metric: Metric) -> None:
        """Add one batch to one metric."""
        if getattr(metric, "takes_batch", False):
            metric.update(batch, outputs)
        else:
            # Positions that only fill up `masked_positions` have the label -100, which the metrics ignore.
            metric.update(outputs.logits, batch["labels"].flatten()[label_positions(batch)])

    def flops_per_batch(self, batch: Batch) -> int:
        """Floating-point operations of one training step on this batch; see `ElcForMaskedLM.estimate_flops`."""
        predicted = sum(batch["label_counts"]) if "label_counts" in batch else int((batch["labels"] != -100).sum())
        sequences, length = batch["input_ids"].shape
        return self.model.estimate_flops(sequences, length, predicted)


def language_metrics() -> dict[str, Metric]:
    """Composer's metrics of an evaluation. Their sums take torch's default dtype; bfloat16 would lose the counts."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        return {
            "LanguageCrossEntropy": LanguageCrossEntropy(),
            "LanguagePerplexity": LanguagePerplexity(),
            "MaskedAccuracy": MaskedAccuracy(),
        }
    finally:
        torch.set_default_dtype(default)


def label_positions(batch: Batch) -> Tensor:
    """The batch's `masked_positions`, or without that key its labelled positions, `[M]` int64."""
    if "masked_positions" in batch:
        return batch["masked_positions"]
    return (batch["labels"].flatten() != -100).nonzero().flatten()


def is_layer(module: nn.Module) -> bool:
    """True for a transformer layer, the unit of sharding and activation checkpointing.

    The tied embedding is not wrapped separately: it stays with the root module.
    """
    return isinstance(module, ElcLayer)
