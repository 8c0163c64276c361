"""Check of one sample of prepared data: shape, type, length and range of its token ids."""

from __future__ import annotations

from typing import Any

import numpy as np


def problem_of(ids: Any, vocab_size: int, seq_length: int) -> str | None:
    """The fault of a sample's `input_ids`, worded to follow the name of the sample; None for a valid sample.

    Args:
        ids: what was read; valid are one-dimensional integer arrays of at most `seq_length` - 2 ids below `vocab_size`.
        vocab_size: entries of the tokenizer.
        seq_length: tokens of a training sequence, [CLS] and [SEP] included.
    """
    if not isinstance(ids, np.ndarray) or ids.ndim != 1 or ids.dtype.kind not in "iu":
        found = f"of shape {ids.shape} and type {ids.dtype}" if isinstance(ids, np.ndarray) else type(ids).__name__
        return f"is {found}; it must be a one-dimensional array of integers: prepare the data with streaming_prep"
    if len(ids) > seq_length - 2:
        return (
            f"has {len(ids)} tokens; a sequence length of {seq_length} leaves room for {seq_length - 2} beside [CLS] "
            "and [SEP]: prepare the data for that sequence length"
        )
    if not ids.size:
        return None
    lowest, highest = int(ids.min()), int(ids.max())
    if lowest < 0 or highest >= vocab_size:
        return (
            f"has token id {lowest if lowest < 0 else highest}; ids must be from 0 to {vocab_size - 1}, the "
            "vocabulary's: prepare the data with this run's tokenizer"
        )
    return None
