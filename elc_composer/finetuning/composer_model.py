"""A classifier as a ComposerModel."""

from __future__ import annotations

from typing import Any

from composer import ComposerModel
from torch import Tensor, nn
from torchmetrics import Metric

from elc_composer.finetuning.batches import Batch
from elc_composer.finetuning.metrics import build_metrics

INPUTS = ("input_ids", "attention_mask", "token_type_ids", "labels")


class ClassifierComposerModel(ComposerModel):
    """Wraps a model that takes `input_ids`, `attention_mask` and `labels` and returns `loss` and `logits` `[B, C]`.

    Evaluation metrics are those of `build_metrics`.
    """

    def __init__(self, model: nn.Module, classes: int) -> None:
        super().__init__()
        self.model = model
        self.eval_metrics = build_metrics(classes)

    def forward(self, batch: Batch) -> Any:
        """Run the model on one batch."""
        return self.model(**{name: batch[name] for name in INPUTS if name in batch})

    def loss(self, outputs: Any, batch: Batch, *args: Any, **kwargs: Any) -> Tensor:
        """Mean cross-entropy in nats."""
        return outputs.loss

    def get_metrics(self, is_train: bool = False) -> dict[str, Metric]:
        """The evaluation metrics."""
        return {} if is_train else self.eval_metrics

    def update_metric(self, batch: Batch, outputs: Any, metric: Metric) -> None:
        """Add one batch to one metric."""
        metric.update(outputs.logits.argmax(-1), batch["labels"])
