"""Masked accuracy, sequence length, epochs and words of every training step, without an extra synchronization."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from composer.core import Callback, State
from composer.loggers import Logger
from composer.utils import dist
from torch import Tensor

IGNORED = -100


class StepMetrics(Callback):
    """Logs figures of every training step under the step of its loss.

    +----------------------------------+-------------------------------------------------------------------------------+
    | Key                              | Logged data                                                                   |
    +==================================+===============================================================================+
    | ``metrics/train/MaskedAccuracy`` | Share of the labelled positions of the global batch whose most likely token   |
    |                                  | is the label; not logged for a batch without labels                           |
    +----------------------------------+-------------------------------------------------------------------------------+
    | ``data/seq_length``              | Tokens of a sequence, padding included                                        |
    +----------------------------------+-------------------------------------------------------------------------------+
    | ``data/epochs``                  | Passes over the training data so far, fractions included, over all stages     |
    +----------------------------------+-------------------------------------------------------------------------------+
    | ``data/words``                   | Estimated words seen over all stages; not logged without `words_per_epoch`    |
    +----------------------------------+-------------------------------------------------------------------------------+

    Composer's own training metrics make the host wait for the device in every step. Here hits and labels are counted on
    the device, for each microbatch, and summed over the ranks before the optimizer step. They are read after Composer
    has fetched the loss, when the device has finished them: nothing waits.

    Batches are dicts with `input_ids` `[B, T]` and `labels` `[B, T]` (-100: no label), model outputs have `logits` for
    all positions, for those in the batch's `masked_positions` `[M]`, or for the labelled ones.

    `words_per_epoch` is the words of an epoch of the present training data; set it again when they change.

    Place it before other callbacks: the step has been counted when it logs, and loggers such as `MetricsFile` and W&B
    take no values for a step after those of the next one.
    """

    def __init__(self, words_per_epoch: float | None = None) -> None:
        self.words_per_epoch = words_per_epoch
        self._counts: Tensor | None = None
        self._epochs: float | None = None
        self._words = 0.0

    def before_train_batch(self, state: State, logger: Logger) -> None:
        """Start counting; also where automatic microbatching repeats a batch that did not fit into memory."""
        self._counts = None

    def after_loss(self, state: State, logger: Logger) -> None:
        """Count hits and labels of a microbatch, on its device."""
        logits, batch = getattr(state.outputs, "logits", None), state.batch
        if logits is None or not isinstance(batch, Mapping) or "labels" not in batch:
            return
        labels = _labels_of(logits, batch)
        hits = logits.detach().flatten(0, -2).argmax(-1) == labels
        counts = torch.stack([hits.sum(), (labels != IGNORED).sum()])
        self._counts = counts if self._counts is None else self._counts + counts

    def after_train_batch(self, state: State, logger: Logger) -> None:
        """Sum the counts over the ranks."""
        if self._counts is not None:
            dist.all_reduce(self._counts)

    def batch_end(self, state: State, logger: Logger) -> None:
        """Log the figures of the step."""
        metrics: dict[str, float] = {}
        if self._counts is not None:
            hits, labels = self._counts.tolist()
            if labels:
                metrics["metrics/train/MaskedAccuracy"] = hits / labels
        if isinstance(state.batch, Mapping) and "input_ids" in state.batch:
            metrics["data/seq_length"] = state.batch["input_ids"].shape[1]
        if state.dataloader_len is not None:
            batches = int(state.dataloader_len)
            if self._epochs is None:
                # The checkpoint of an earlier version has no count: take Composer's, which rounds up between stages.
                before = state.previous_timestamp or state.timestamp
                self._epochs = int(before.epoch) + int(before.batch_in_epoch) / batches
            self._epochs += 1 / batches
            metrics["data/epochs"] = self._epochs
            if self.words_per_epoch is not None:
                self._words += self.words_per_epoch / batches
                metrics["data/words"] = self._words
        logger.log_metrics(metrics, step=int(state.timestamp.batch) - 1)

    def state_dict(self) -> dict[str, Any]:
        """The epochs and words seen."""
        return {"epochs": self._epochs, "words": self._words}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue the counts."""
        self._epochs, self._words = state["epochs"], state["words"]


def _labels_of(logits: Tensor, batch: Mapping[str, Any]) -> Tensor:
    """The labels `[M]` that belong to the rows of `logits` `[..., V]`."""
    labels = batch["labels"].flatten()
    if "masked_positions" in batch:
        return labels.index_select(0, batch["masked_positions"])
    return labels if logits.shape[:-1].numel() == labels.numel() else labels[labels != IGNORED]
