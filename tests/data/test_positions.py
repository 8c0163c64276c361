"""Positions of a microbatch: all labels are among them, and their number depends on its shape only."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from elc_composer.data.masking import IGNORED, MaskingConfig, mask_batch
from elc_composer.data.positions import DEVIATIONS, OVERSHOOT, OVERSHOOT_VARIANCE, LabelPositions
from elc_composer.data.random import sample_keys
from tests.data.prepared import TOKENS, VOCAB_SIZE


def masked_labels(rows: int, length: int, config: MaskingConfig, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    ids = rng.integers(7, VOCAB_SIZE, (rows, length))
    ids[:, 0], ids[:, -1] = TOKENS.cls_id, TOKENS.sep_id
    keys = sample_keys(seed, np.zeros(rows, np.int64), np.arange(rows))
    return torch.from_numpy(mask_batch(ids, keys, np.full(rows, config.probability), config, TOKENS)[1])


def batch_of(labels: Tensor) -> dict:
    return {"labels": labels, "label_counts": (labels != IGNORED).sum(1).tolist(), "kind": "train"}


@pytest.mark.parametrize("strategy", ["span", "token"])
@pytest.mark.parametrize(("rows", "micro", "length"), [(48, 16, 128), (7, 3, 33), (2, 1, 4)])
def test_positions_hold_each_label_once_and_have_one_length_per_shape(
    strategy: str, rows: int, micro: int, length: int
) -> None:
    split = LabelPositions(MaskingConfig(strategy=strategy))
    sizes: dict[int, set[int]] = {}
    for seed in range(5):
        batch = batch_of(masked_labels(rows, length, split.masking, seed))
        parts = split(batch, micro)
        assert sum(len(part["labels"]) for part in parts) == rows
        for part in parts:
            positions, labels = part["masked_positions"], part["labels"].flatten()
            assert len(set(positions.tolist())) == len(positions)
            assert (labels[positions] != IGNORED).sum() == (labels != IGNORED).sum() == sum(part["label_counts"])
            sizes.setdefault(len(part["labels"]), set()).add(len(positions))
    assert all(len(seen) == 1 for seen in sizes.values())


@pytest.mark.parametrize("length", [128, 512])
@pytest.mark.parametrize("probability", [0.15, 0.4])
def test_length_of_the_list_is_enough_and_not_much_more(length: int, probability: float) -> None:
    config = MaskingConfig(probability=probability)
    sequences = 4000
    counts = (masked_labels(sequences, length, config) != IGNORED).sum(1).double()
    goal = probability * (length - 2)
    assert counts.mean() - goal < OVERSHOOT
    variance = probability * (1 - probability) * (length - 2) + OVERSHOOT_VARIANCE
    # Four standard errors of a variance of so many sequences.
    assert counts.var() < variance * (1 + 4 * (2 / sequences) ** 0.5)
    rows = 256
    places = LabelPositions(config).places(rows, length)
    assert places >= rows * counts.mean() + (DEVIATIONS - 1) * (rows * counts.var()).sqrt()
    assert places <= 1.15 * rows * counts.mean()


def test_length_of_the_list_follows_the_largest_probability_of_a_schedule() -> None:
    rising, fixed = MaskingConfig(final_probability=0.4), MaskingConfig(probability=0.4)
    assert LabelPositions(rising).places(64, 128) == LabelPositions(fixed).places(64, 128)


def test_more_labels_than_expected_make_the_list_longer() -> None:
    split = LabelPositions(MaskingConfig())
    (part,) = split(batch_of(torch.full((64, 128), 9)), 64)
    assert sorted(part["masked_positions"].tolist()) == list(range(64 * 128))


@pytest.mark.parametrize("micro", [4, 1])
def test_a_batch_without_labels_has_lists_of_the_usual_length(micro: int) -> None:
    split = LabelPositions(MaskingConfig())
    parts = split(batch_of(torch.full((4, 128), IGNORED)), micro)
    assert [len(part["masked_positions"]) for part in parts] == [split.places(micro, 128)] * (4 // micro)
    assert all(len(set(part["masked_positions"].tolist())) == split.places(micro, 128) for part in parts)


def test_a_microbatch_can_be_split_again() -> None:
    split = LabelPositions(MaskingConfig())
    (part,) = split(batch_of(masked_labels(4, 128, split.masking)), 4)
    assert part["masked_positions"].max() >= 3 * 128
    again = split(part, 3)
    assert [int(cut["masked_positions"].max()) < cut["labels"].numel() for cut in again] == [True, True]
    assert [len(cut["labels"]) for cut in again] == [3, 1]


def test_results_do_not_depend_on_the_default_dtype() -> None:
    split = LabelPositions(MaskingConfig())
    (expected,) = split(batch_of(masked_labels(48, 128, split.masking)), 48)
    torch.set_default_dtype(torch.bfloat16)
    try:
        (found,) = split(batch_of(masked_labels(48, 128, split.masking)), 48)
    finally:
        torch.set_default_dtype(torch.float32)
    for name in ("labels", "masked_positions"):
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=0)
