"""What a ComposerModel needs to be evaluated on minimal pairs."""

from __future__ import annotations

from typing import Any

from composer import ComposerModel
from torch import nn
from torchmetrics import Metric

from elc_composer.evaluation.in_training.metrics import MinimalPairAccuracy
from elc_composer.evaluation.in_training.pair_batches import Batch, is_pair_batch
from elc_composer.evaluation.position_logits import PositionLogits


def with_minimal_pairs(model: ComposerModel, metrics: dict[str, Metric]) -> ComposerModel:
    """Teach any ComposerModel to be evaluated on minimal pairs; the same object is returned.

    The transformers model is looked for in the attribute `model`, as Composer's HuggingFaceModel has it; else the
    ComposerModel itself is called as one. Batches that hold no minimal pairs go the model's own way.
    """
    kind = type(model)

    class Taught(kind):  # type: ignore[valid-type, misc]
        def eval_forward(self, batch: Any, outputs: Any = None) -> Any:
            return minimal_pair_forward(self, batch) if is_pair_batch(batch) else super().eval_forward(batch, outputs)

        def update_metric(self, batch: Any, outputs: Any, metric: Metric) -> Any:
            if isinstance(metric, MinimalPairAccuracy):
                return metric.update(batch, outputs)
            return super().update_metric(batch, outputs, metric)

        def get_metrics(self, is_train: bool = False) -> dict[str, Metric]:
            own = super().get_metrics(is_train)
            return own if is_train else {**own, **metrics}

    Taught.__name__, Taught.__qualname__ = kind.__name__, kind.__qualname__
    model.__class__ = Taught
    return model


def minimal_pair_forward(model: nn.Module, batch: Batch) -> Any:
    """Logits `[M, V]` at the labelled places of a batch of `PairBatches`, for any ComposerModel (see above)."""
    inner = getattr(model, "model", model)
    logits_at = getattr(model, "_minimal_pair_logits", None)
    if logits_at is None or logits_at.model is not inner:
        logits_at = PositionLogits(inner)
        # Not a module: it must stay out of the state dict.
        object.__setattr__(model, "_minimal_pair_logits", logits_at)
    positions = (batch["labels"].flatten() != -100).nonzero().flatten()
    return logits_at(batch["input_ids"], batch["attention_mask"], positions)
