"""Minimal-pair accuracy as a torchmetrics metric that adds up over ranks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from elc_composer.evaluation.in_training.pair_batches import Batch
from elc_composer.evaluation.scoring import target_log_probs

_SCORES, _CREDIT = "pair_scores", "paradigm_credit"


def pair_scores(batch: Batch, outputs: Any) -> Tensor:
    """Scores of the good and the bad sentences of a batch of `PairBatches`, `[P, 2]` in nats.

    `outputs` is what the model returned for the batch: logits, or an object or dict that holds them as `logits`,
    `[M, V]` at the labelled places or `[B, T, V]`. The result is kept in the batch, for all metrics to share.
    """
    if _SCORES not in batch:
        logits = outputs if isinstance(outputs, Tensor) else outputs["logits"]
        if logits.dim() == 3:
            logits = logits[batch["labels"] != -100]
        values = target_log_probs(logits, batch["target_slot"], batch["target_token"], batch["temperature"])
        # MPS has no float64.
        wide = values if values.device.type == "mps" else values.double()
        sums = torch.zeros(len(batch["sentence_divisor"]), dtype=wide.dtype, device=wide.device)
        sums.index_add_(0, batch["target_sentence"], wide)
        batch[_SCORES] = (sums / batch["sentence_divisor"])[batch["pair_sentences"]]
    return batch[_SCORES]


def _paradigm_credit(batch: Batch, outputs: Any) -> Tensor:
    """`[G]` what the batch's pairs earn, summed over each paradigm."""
    if _CREDIT not in batch:
        good, bad = pair_scores(batch, outputs).unbind(dim=1)
        credit = (good > bad).float() + batch["tie_credit"] * (good == bad).float()
        # Scores that are no numbers lose no pair: they make the accuracy none, too.
        credit = credit.masked_fill(torch.isnan(good) | torch.isnan(bad), math.nan)
        batch[_CREDIT] = torch.zeros_like(batch["paradigm_pairs"]).index_add_(0, batch["pair_paradigm"], credit)
    return batch[_CREDIT]


class MinimalPairAccuracy(Metric):
    """Share of minimal pairs whose good sentence scores higher, over one or several paradigms.

    `update(batch, outputs)` takes a batch of `PairBatches` and the model's outputs; pairs of other paradigms are passed
    over. `compute()` gives the accuracy over all pairs, or with `groups` the mean of the groups' accuracies; a group
    without pairs counts nowhere, and without any pair, or with a score that is NaN, the result is NaN.
    """

    full_state_update = False
    higher_is_better = True
    takes_batch = True
    """Tells the model's `update_metric` to pass the batch and the outputs as they are."""
    index: Tensor
    group: Tensor
    headline = False
    """Worth a curve of its own in pictures: the mean over paradigms, and each phenomenon."""
    credit: Tensor
    count: Tensor

    def __init__(self, paradigms: Sequence[int], groups: Sequence[int] | None = None, **kwargs: Any) -> None:
        """Name the paradigms by their numbers, and for a mean over groups each one's group, counted from 0."""
        super().__init__(**kwargs)
        group = torch.tensor(list(groups) if groups is not None else [0] * len(paradigms))
        self.register_buffer("index", torch.tensor(list(paradigms)), persistent=False)
        self.register_buffer("group", group, persistent=False)
        # Not the default dtype: bfloat16 counts to 256 only. Float32 adds halves exactly up to 8 million pairs.
        zeros = torch.zeros(int(group.max()) + 1, dtype=torch.float32)
        self.add_state("credit", zeros, dist_reduce_fx="sum")
        self.add_state("count", zeros.clone(), dist_reduce_fx="sum")

    def update(self, batch: Batch, outputs: Any) -> None:
        """Add a batch."""
        self.credit.index_add_(0, self.group, _paradigm_credit(batch, outputs)[self.index])
        self.count.index_add_(0, self.group, batch["paradigm_pairs"][self.index])

    def compute(self) -> Tensor:
        """Accuracy, 0 to 1."""
        return (self.credit / self.count)[self.count > 0].mean()
