"""Adds evaluation on minimal pairs to any ComposerModel."""

from __future__ import annotations

from types import MethodType
from typing import Any

from composer import ComposerModel
from torch import nn
from torchmetrics import Metric

from elc_composer.evaluation.in_training.metrics import MinimalPairAccuracy
from elc_composer.evaluation.in_training.pair_batches import Batch, is_pair_batch
from elc_composer.evaluation.position_logits import PositionLogits


def with_minimal_pairs(model: ComposerModel, metrics: dict[str, Metric]) -> ComposerModel:
    """Make a ComposerModel evaluate minimal pairs; returns the same object.

    Three methods of this object are replaced; its class, parameters and state dict stay as they are. The transformers
    model is the attribute `model`, as in Composer's HuggingFaceModel, or else the ComposerModel itself. Other batches
    are evaluated as before.
    """
    instance: Any = model
    instance.minimal_pair_metrics = {**getattr(model, "minimal_pair_metrics", {}), **metrics}
    # Bound methods, not closures: a deep copy of the model then binds them to the copy.
    instance.eval_forward = MethodType(_eval_forward, model)
    instance.update_metric = MethodType(_update_metric, model)
    instance.get_metrics = MethodType(_get_metrics, model)
    return model


def minimal_pair_forward(model: nn.Module, batch: Batch) -> Any:
    """Logits `[M, V]` at the labelled positions of a batch of `PairBatches`, for any ComposerModel (see above)."""
    inner = getattr(model, "model", model)
    logits_at = getattr(model, "_minimal_pair_logits", None)
    if logits_at is None or logits_at.model is not inner:
        logits_at = PositionLogits(inner)
        # Bypasses nn.Module.__setattr__, which would register the model in it and add it to the state dict twice.
        object.__setattr__(model, "_minimal_pair_logits", logits_at)
    positions = (batch["labels"].flatten() != -100).nonzero().flatten()
    return logits_at(batch["input_ids"], batch["attention_mask"], positions)


def _eval_forward(model: Any, batch: Any, outputs: Any = None) -> Any:
    if is_pair_batch(batch):
        return minimal_pair_forward(model, batch)
    return type(model).eval_forward(model, batch, outputs)


def _update_metric(model: Any, batch: Any, outputs: Any, metric: Metric) -> Any:
    if isinstance(metric, MinimalPairAccuracy):
        return metric.update(batch, outputs)
    return type(model).update_metric(model, batch, outputs, metric)


def _get_metrics(model: Any, is_train: bool = False) -> dict[str, Metric]:
    own = type(model).get_metrics(model, is_train)
    return own if is_train else {**own, **model.minimal_pair_metrics}
