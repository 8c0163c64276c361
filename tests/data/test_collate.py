"""The collator: framing, padding, cutting, masks independent of the batch, and errors for invalid samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from elc_composer.common.errors import DataError
from elc_composer.data.collate import BLOCK, MaskingCollator, Segment
from elc_composer.data.masking import IGNORED, MaskingConfig, TokenIds
from elc_composer.prepared.tokenizer_files import SPECIAL_TOKENS
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


def test_blocks_do_not_change_the_masks() -> None:
    many = samples([5] * (BLOCK + 9))
    whole, tail = COLLATOR(many), COLLATOR(many[BLOCK - 3 :])
    torch.testing.assert_close(whole["labels"][BLOCK - 3 :], tail["labels"])
    torch.testing.assert_close(whole["input_ids"][BLOCK - 3 :], tail["input_ids"])


def test_short_p_cuts_its_share_of_segments_to_uniform_lengths() -> None:
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


@pytest.mark.parametrize("rules", ["published", "fitted"])
def test_masks_do_not_depend_on_the_longest_segment_of_the_batch(rules: str) -> None:
    """Spans are placed over all `seq_length` positions, whatever the width of the batch."""
    config = MaskingConfig(rules=rules, probability=0.4)
    whole, cropped = (
        replace(COLLATOR, seq_length=64, masking=config, pad_to=pad_to) for pad_to in ("seq_length", "longest")
    )
    given = samples([5, 9, 20, 13])
    reference = whole(given)
    for batch, columns, rows in (
        (cropped(given), 22, [0, 1, 2, 3]),
        (cropped(given[:2]), 11, [0, 1]),
        (cropped(given[3:]), 15, [3]),
    ):
        for name in ("input_ids", "labels", "attention_mask"):
            torch.testing.assert_close(batch[name], reference[name][rows, :columns])
        assert batch["label_counts"] == [reference["label_counts"][row] for row in rows]
        assert batch["labels"].is_contiguous()


def test_error_for_a_segment_that_is_too_long() -> None:
    with pytest.raises(DataError, match=r"sample 41 has 11 tokens; a sequence length of 12 leaves room for 10"):
        COLLATOR(samples([4, 11]))


def test_error_for_ids_outside_the_vocabulary() -> None:
    given = samples([4, 6])
    given[1]["input_ids"][2] = VOCAB_SIZE
    with pytest.raises(
        DataError, match=rf"sample 41 has token id {VOCAB_SIZE}; ids must be from 0 to {VOCAB_SIZE - 1}"
    ):
        COLLATOR(given)
    given[1]["input_ids"] = np.array([9, -2, 9])
    with pytest.raises(DataError, match=r"sample 41 has token id -2; ids must be from 0"):
        COLLATOR(given)


def test_error_for_samples_of_two_dimensions() -> None:
    given = samples([4, 6])
    given[1]["input_ids"] = np.full((2, 3), 9)
    with pytest.raises(DataError, match=r"sample 41 is of shape \(2, 3\) and type int64; it must be a one-dimensional"):
        COLLATOR(given)


def test_evaluation_uses_the_masking_probability_of_the_end_of_the_run() -> None:
    config = MaskingConfig(strategy="token", probability=0.01, final_probability=0.99)
    given = samples([10] * 50)
    fixed = replace(COLLATOR, masking=config, fixed=True)
    assert sum(fixed(given)["label_counts"]) > 450 > 50 > sum(replace(fixed, fixed=False)(given)["label_counts"])
    assert fixed([replace_epoch(sample, 3) for sample in given])["label_counts"] == fixed(given)["label_counts"]


def test_default_ids_are_those_of_the_published_special_tokens() -> None:
    ids = {token: index for index, token in enumerate(SPECIAL_TOKENS)}
    expected = TokenIds(VOCAB_SIZE, ids["[CLS]"], ids["[SEP]"], ids["[PAD]"], ids["[MASK]"], ids["[PAR]"], ids["[TAB]"])
    assert TokenIds(VOCAB_SIZE) == expected
