"""From segments to a masked batch of one length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray

from elc_composer.common.errors import DataError
from elc_composer.data.masking import IGNORED, SHORT, MaskingConfig, TokenIds, mask_batch
from elc_composer.data.random import sample_keys, uniforms

# Rows masked at a time: small enough for the caches, large enough that numpy's overhead vanishes.
BLOCK = 256


class Segment(TypedDict):
    """One sample as the dataset yields it."""

    input_ids: NDArray[Any]
    """`[n]` unsigned integers, without [CLS] and [SEP]."""
    sample_id: int
    """Its index in the dataset, all streams counted."""
    epoch: int
    step: int
    """Optimizer step, counted from the loader's first, that the sample is for."""


@dataclass
class MaskingCollator:
    """Frames segments with [CLS] and [SEP], pads them to one length and masks the batch.

    Returns a dict of `input_ids` `[B, T]` int64, `attention_mask` `[B, T]` bool (True at tokens that are not padding),
    `labels` `[B, T]` int64 (-100 where nothing is predicted), `sample_ids` `[B]` int64, and two lists of B numbers that
    need no look at a device: `token_counts` (not padding) and `label_counts`.

    What a segment becomes depends on the seed, its epoch, its id and the step it is for, and on nothing else.
    """

    seq_length: int
    masking: MaskingConfig
    tokens: TokenIds
    seed: int
    first_step: int = 0
    """Optimizer steps of the run before the loader's first batch."""
    total_steps: int = 1
    """Optimizer steps of the run, for a mask probability that changes over it."""
    short_p: float = 0.0
    pad_to: str = "seq_length"
    fixed: bool = False
    """The same masks at every call, with the probability of the run's end: for evaluation."""

    def __call__(self, samples: Sequence[Segment]) -> dict[str, torch.Tensor | list[int]]:
        """Collate.

        Raises:
            DataError: for a segment longer than `seq_length` - 2 tokens or with an id outside the vocabulary.
        """
        ids = np.array([sample["sample_id"] for sample in samples], np.int64)
        epochs = np.zeros_like(ids) if self.fixed else np.array([sample["epoch"] for sample in samples], np.int64)
        keys = sample_keys(self.seed, epochs, ids)
        lengths = np.array([len(sample["input_ids"]) for sample in samples], np.int64)
        if lengths.max() > self.seq_length - 2:
            at = int(lengths.argmax())
            raise DataError(
                f"sample {ids[at]} has {lengths[at]} tokens: with [CLS] and [SEP] it does not fit into "
                f"{self.seq_length}; prepare the data for that sequence length."
            )
        if self.short_p:
            lengths = self._shorten(lengths, keys)
        input_ids = self._frame(samples, lengths)
        if self.fixed:
            progress = np.ones(len(ids))
        else:
            steps = np.array([sample["step"] for sample in samples], np.float64)
            progress = (self.first_step + steps) / self.total_steps
        probability = self.masking.probability_at(progress)
        blocks = [slice(start, start + BLOCK) for start in range(0, len(ids), BLOCK)]
        parts = [mask_batch(input_ids[b], keys[b], probability[b], self.masking, self.tokens) for b in blocks]
        labels = np.concatenate([part[1] for part in parts])
        return {
            "input_ids": torch.from_numpy(np.concatenate([part[0] for part in parts])),
            "attention_mask": torch.from_numpy(np.arange(input_ids.shape[1])[None] < (lengths + 2)[:, None]),
            "labels": torch.from_numpy(labels),
            "sample_ids": torch.from_numpy(ids),
            "token_counts": (lengths + 2).tolist(),
            "label_counts": (labels != IGNORED).sum(1).tolist(),
        }

    def _shorten(self, lengths: NDArray[np.int64], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        draws = uniforms(keys, SHORT, 2)
        shorter = 1 + (draws[:, 1] * lengths).astype(np.int64)
        return np.where((draws[:, 0] < self.short_p) & (lengths > 0), shorter, lengths)

    def _frame(self, samples: Sequence[Segment], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        width = self.seq_length if self.pad_to == "seq_length" else int(lengths.max()) + 2
        text = np.concatenate([sample["input_ids"][:length] for sample, length in zip(samples, lengths)])
        if text.size and int(text.max()) >= self.tokens.vocab_size:
            worst = max(samples, key=lambda sample: int(sample["input_ids"].max(initial=0)))
            raise DataError(
                f"sample {worst['sample_id']} holds token id {int(worst['input_ids'].max())}, but the vocabulary has "
                f"{self.tokens.vocab_size} entries: the data were prepared with another tokenizer."
            )
        column = np.arange(width)[None]
        framed = np.full((len(samples), width), self.tokens.pad_id, np.int64)
        framed[:, 0] = self.tokens.cls_id
        framed[(column >= 1) & (column <= lengths[:, None])] = text
        framed[np.arange(len(samples)), lengths + 1] = self.tokens.sep_id
        return framed
