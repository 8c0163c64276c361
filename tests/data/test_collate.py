"""A batch frames every segment as [CLS] text [SEP], pads it and refuses what does not fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from elc_composer.common.errors import DataError
from elc_composer.data.collate import BLOCK, MaskingCollator, Segment
from elc_composer.data.masking import IGNORED, MaskingConfig
from tests.data.prepared import TOKENS, VOCAB_SIZE

COLLATOR = MaskingCollator(seq_length=12, masking=MaskingConfig(), tokens=TOKENS, seed=0)


def samples(lengths: list[int]) -> list[Segment]:
    rng = np.random.default_rng(0)
    return [
        Segment(input_ids=rng.integers(7, VOCAB_SIZE, n).astype(np.uint16), sample_id=i + 40, epoch=0, step=0)
        for i, n in enumerate(lengths)
    ]


def unmasked(batch: dict) -> torch.Tensor:
    return torch.where(batch["labels"] == IGNORED, batch["input_ids"], batch["labels"])


@pytest.mark.parametrize("pad_to", ["seq_length", "longest"])
def test_segments_are_framed_and_padded(pad_to: str) -> None:
    given = samples([3, 7, 1, 0])
    batch = replace(COLLATOR, pad_to=pad_to)(given)
    width = 12 if pad_to == "seq_length" else 9
    assert batch["input_ids"].shape == batch["labels"].shape == batch["attention_mask"].shape == (4, width)
    assert [batch[k].dtype for k in ("input_ids", "labels", "sample_ids")] == [torch.int64] * 3
    assert batch["attention_mask"].dtype == torch.bool
    for row, sample, mask in zip(unmasked(batch).tolist(), given, batch["attention_mask"].tolist()):
        framed = [TOKENS.cls_id, *sample["input_ids"].tolist(), TOKENS.sep_id]
        assert row == framed + [TOKENS.pad_id] * (width - len(framed))
        assert mask == [True] * len(framed) + [False] * (width - len(framed))
    assert batch["sample_ids"].tolist() == [40, 41, 42, 43]
    assert batch["token_counts"] == [5, 9, 3, 2]
    assert batch["label_counts"] == (batch["labels"] != IGNORED).sum(1).tolist()


def test_a_batch_larger_than_a_block_is_masked_the_same() -> None:
    many = samples([5] * (BLOCK + 9))
    whole, tail = COLLATOR(many), COLLATOR(many[BLOCK - 3 :])
    torch.testing.assert_close(whole["labels"][BLOCK - 3 :], tail["labels"])
    torch.testing.assert_close(whole["input_ids"][BLOCK - 3 :], tail["input_ids"])


def test_short_p_cuts_that_share_to_a_uniform_length() -> None:
    n, size = 6000, 50
    collator = replace(COLLATOR, seq_length=size + 2, short_p=0.1)
    lengths = np.array(collator(samples([size] * n))["token_counts"]) - 2
    cut = lengths[lengths < size]
    expected = 0.1 * (size - 1) / size
    assert abs(len(cut) / n - expected) < 4 * np.sqrt(expected / n)
    assert cut.min() >= 1
    assert abs(cut.mean() - size / 2) < 4 * size / np.sqrt(12 * len(cut))
    again = collator([replace_epoch(s, 1) for s in samples([size] * n)])["token_counts"]
    assert (np.array(again) - 2 != lengths).any()
    whole = COLLATOR.__class__(size + 2, MaskingConfig(), TOKENS, 0)(samples([size] * 9))
    assert whole["token_counts"] == [size + 2] * 9


def replace_epoch(sample: Segment, epoch: int) -> Segment:
    return Segment(**{**sample, "epoch": epoch})


def test_a_segment_that_is_too_long_is_refused() -> None:
    with pytest.raises(DataError, match=r"sample 41 has 11 tokens.*into 12"):
        COLLATOR(samples([4, 11]))


def test_a_token_outside_the_vocabulary_is_refused() -> None:
    given = samples([4, 6])
    given[1]["input_ids"][2] = VOCAB_SIZE
    with pytest.raises(DataError, match=rf"sample 41 holds token id {VOCAB_SIZE}.*{VOCAB_SIZE} entries"):
        COLLATOR(given)
