"""The masking rules of earlier versions, kept for runs that began with them: the same masks as those versions gave."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from elc_composer.data.collate import MASK_BATCH, MaskingCollator, Segment
from elc_composer.data.masking import MaskingConfig, TokenIds
from elc_composer.data.random import sample_keys

TOKENS = TokenIds(vocab_size=500)
ROWS = 40


def make_batch(length: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    ids = np.full((ROWS, length), TOKENS.pad_id)
    for row, size in zip(ids, rng.integers(0, length - 1, ROWS)):
        row[: size + 2] = [1, *rng.integers(7, 500, size), 2]
        inner = row[1 : size + 1]
        inner[rng.random(size) < 0.05] = 6
    return ids


# Digests of the output of commit 1c4f268, the last one before the published rules.
@pytest.mark.parametrize(
    ("strategy", "length", "probability", "options", "digest"),
    [
        ("span", 128, 0.15, {}, "6ca8f6681857f8d3"),
        ("span", 40, 0.95, {}, "d0bb621693fc1236"),
        ("span", 300, 0.4, {"max_spans": 7}, "9a128004a3141455"),
        ("span", 128, 0.3, {"max_span_length": 3}, "8017c73e7f1e7856"),
        ("token", 128, 0.15, {}, "95893f03f4f2b9ff"),
        ("token", 40, 0.95, {}, "f64d9a9adc18e85c"),
        ("token", 300, 0.4, {"max_spans": 7}, "57cf765f3e571b7e"),
        ("token", 128, 0.3, {"max_span_length": 3}, "c86573881f4b14c5"),
    ],
)
def test_masks_equal_those_of_the_earlier_version(
    strategy: str, length: int, probability: float, options: dict, digest: str
) -> None:
    config = MaskingConfig(strategy, "fitted", probability, **{"max_spans": None, **options})
    keys = sample_keys(1, [0] * ROWS, np.arange(ROWS))
    output = MASK_BATCH["fitted"](make_batch(length), keys, np.full(ROWS, probability), config, TOKENS)
    assert hashlib.sha256(np.stack(output).astype("<i8").tobytes()).hexdigest()[:16] == digest


def test_the_collator_masks_by_the_configured_rules() -> None:
    ids = make_batch(32)[:, 1:31]
    segments = [Segment(input_ids=row[row > 3], sample_id=i, epoch=0, step=0) for i, row in enumerate(ids)]
    masks = {}
    for rules in ("published", "fitted"):
        config = MaskingConfig(rules=rules, max_spans=None)
        batch = MaskingCollator(32, config, TOKENS, seed=0)(segments)
        masks[rules] = batch["labels"]
        lengths = np.array([len(segment["input_ids"]) for segment in segments])
        has_label = np.array(batch["label_counts"]) > 0
        if rules == "fitted":
            np.testing.assert_array_equal(has_label, lengths > 0)
    assert (masks["published"] != masks["fitted"]).any()
