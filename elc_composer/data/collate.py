"""Collator: frames segments with [CLS] and [SEP], pads them to one length and masks the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray

from elc_composer.common.errors import DataError
from elc_composer.data import fitted_masking, masking
from elc_composer.data.masking import IGNORED, MaskingConfig, TokenIds
from elc_composer.data.random import SHORT, sample_keys, uniforms
from elc_composer.data.samples import problem_of

BLOCK = 256
"""Rows masked at a time: few enough for the CPU caches, enough to make numpy's cost per call negligible."""
MASK_BATCH = {"published": masking.mask_batch, "fitted": fitted_masking.mask_batch}


class Segment(TypedDict):
    """One sample as the dataset yields it."""

    input_ids: NDArray[Any]
    """`[n]` integers, without [CLS] and [SEP]."""
    sample_id: int
    """Index in the dataset, counted over all streams."""
    epoch: int
    step: int
    """Optimizer step of the sample's batch, counted from the first batch of the loader."""


@dataclass
class MaskingCollator:
    """Turns a list of `Segment` into a masked batch.

    Returns a dict of `input_ids` `[B, T]` int64, `attention_mask` `[B, T]` bool (True at tokens that are not padding),
    `labels` `[B, T]` int64 (-100 where nothing is predicted), `sample_ids` `[B]` int64, and two lists of B integers
    that can be read without a device synchronization: `token_counts` (tokens that are not padding) and `label_counts`.

    The result for a segment depends on the seed, its epoch, its id and its step only, not on the rest of the batch.
    """

    seq_length: int
    masking: MaskingConfig
    tokens: TokenIds
    seed: int
    first_step: int = 0
    """Optimizer steps of the run before the first batch of the loader."""
    total_steps: int = 1
    """Optimizer steps of the run, for a masking probability that changes over it."""
    short_p: float = 0.0
    """Share of the segments that are cut to a random length."""
    pad_to: str = "seq_length"
    """`seq_length`: T is `seq_length`; `longest`: T is the longest segment of the batch, framed."""
    fixed: bool = False
    """For evaluation: the same masks at every call, with the masking probability of the end of the run."""

    def __call__(self, samples: Sequence[Segment]) -> dict[str, torch.Tensor | list[int]]:
        """Collate.

        Raises:
            DataError: for a segment that is not a one-dimensional array of ids of the vocabulary, or is longer than
                `seq_length` - 2 tokens.
        """
        self._check(samples)
        ids = np.array([sample["sample_id"] for sample in samples], np.int64)
        epochs = np.zeros_like(ids) if self.fixed else np.array([sample["epoch"] for sample in samples], np.int64)
        keys = sample_keys(self.seed, epochs, ids)
        lengths = np.array([len(sample["input_ids"]) for sample in samples], np.int64)
        if self.short_p:
            lengths = self._shorten(lengths, keys)
        # Framed and masked at the full sequence length, then cropped: spans are placed over the padding too, so masks
        # at the width of the batch would depend on its longest segment.
        framed = self._frame(samples, lengths)
        masked, labels = self._mask(framed, keys, self._probability(samples))
        width = self.seq_length if self.pad_to == "seq_length" else int(lengths.max()) + 2
        return {
            "input_ids": torch.from_numpy(np.ascontiguousarray(masked[:, :width])),
            "attention_mask": torch.from_numpy(np.arange(width)[None] < (lengths + 2)[:, None]),
            "labels": torch.from_numpy(np.ascontiguousarray(labels[:, :width])),
            "sample_ids": torch.from_numpy(ids),
            "token_counts": (lengths + 2).tolist(),
            "label_counts": (labels != IGNORED).sum(1).tolist(),
        }

    def _check(self, samples: Sequence[Segment]) -> None:
        """Check all samples at once, which costs a tenth of one check per sample; look for the culprit only then."""
        arrays = [sample["input_ids"] for sample in samples]
        if all(array.ndim == 1 and len(array) <= self.seq_length - 2 for array in arrays):
            text = np.concatenate(arrays)
            if not text.size or (text.min() >= 0 and text.max() < self.tokens.vocab_size):
                return
        for sample in samples:
            problem = problem_of(sample["input_ids"], self.tokens.vocab_size, self.seq_length)
            if problem is not None:
                raise DataError(f"sample {sample['sample_id']} {problem}")

    def _probability(self, samples: Sequence[Segment]) -> NDArray[np.float64]:
        """Masking probability `[B]` of each sample."""
        if self.fixed:
            return self.masking.probability_at(np.ones(len(samples)))
        steps = np.array([sample["step"] for sample in samples], np.float64)
        return self.masking.probability_at((self.first_step + steps) / self.total_steps)

    def _mask(
        self, framed: NDArray[np.int64], keys: NDArray[np.uint64], probability: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        mask_batch = MASK_BATCH[self.masking.rules]
        blocks = [slice(start, start + BLOCK) for start in range(0, len(framed), BLOCK)]
        parts = [mask_batch(framed[b], keys[b], probability[b], self.masking, self.tokens) for b in blocks]
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def _shorten(self, lengths: NDArray[np.int64], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        draws = uniforms(keys, SHORT, 2)
        shorter = 1 + (draws[:, 1] * lengths).astype(np.int64)
        return np.where((draws[:, 0] < self.short_p) & (lengths > 0), shorter, lengths)

    def _frame(self, samples: Sequence[Segment], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """`[B, seq_length]`: [CLS], the first `lengths` `[B]` tokens of each segment, [SEP], padding."""
        text = np.concatenate([sample["input_ids"][:length] for sample, length in zip(samples, lengths)])
        column = np.arange(self.seq_length)[None]
        framed = np.full((len(samples), self.seq_length), self.tokens.pad_id, np.int64)
        framed[:, 0] = self.tokens.cls_id
        framed[(column >= 1) & (column <= lengths[:, None])] = text
        framed[np.arange(len(samples)), lengths + 1] = self.tokens.sep_id
        return framed
