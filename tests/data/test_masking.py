"""Masked batches: equal to the plain procedure, independent of batch mates, and only where they may be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from elc_composer.common.errors import ConfigError
from elc_composer.data.masking import IGNORED, MaskingConfig, TokenIds, mask_batch
from elc_composer.data.random import sample_keys, uniforms, uniforms_at
from tests.data.masking_reference import mask_sample

TOKENS = TokenIds(vocab_size=500)
PARAGRAPH = 5


def make_batch(rows: int, length: int, seed: int = 0, special_share: float = 0.05) -> np.ndarray:
    """Sequences of 0 to length - 2 text tokens, some of them special, with [CLS], [SEP] and padding."""
    rng = np.random.default_rng(seed)
    ids = np.full((rows, length), TOKENS.pad_id)
    for row, size in zip(ids, rng.integers(0, length - 1, rows)):
        row[: size + 2] = [1, *rng.integers(7, TOKENS.vocab_size, size), 2]
        inner = row[1 : size + 1]
        inner[rng.random(size) < special_share] = PARAGRAPH
    return ids


def mask(ids: np.ndarray, config: MaskingConfig, seed: int = 1, epoch: int = 0, probability: float | None = None):
    rows = len(ids)
    keys = sample_keys(seed, [epoch] * rows, np.arange(rows))
    share = np.full(rows, config.probability if probability is None else probability)
    return mask_batch(ids, keys, share, config, TOKENS)


@pytest.mark.parametrize("strategy", ["span", "token"])
@pytest.mark.parametrize(
    ("length", "probability", "options"),
    [
        (128, 0.15, {}),
        (128, 0.3, {"max_span_length": 3}),
        (40, 0.95, {}),
        (33, 0.01, {"max_span_length": 1}),
        (300, 0.4, {"max_spans": 7}),
    ],
)
def test_equals_the_plain_procedure(strategy: str, length: int, probability: float, options: dict) -> None:
    config = MaskingConfig(strategy=strategy, probability=probability, **options)
    ids = make_batch(40, length)
    masked, labels = mask(ids, config)
    keys = sample_keys(1, [0] * 40, np.arange(40))
    for row in range(40):
        expected_ids, expected_labels = mask_sample(ids[row], keys[row : row + 1], probability, config, TOKENS)
        np.testing.assert_array_equal(masked[row], expected_ids)
        np.testing.assert_array_equal(labels[row], expected_labels)


@pytest.mark.parametrize("strategy", ["span", "token"])
def test_labels_only_where_masked_and_special_tokens_never(strategy: str) -> None:
    ids = make_batch(300, 64, special_share=0.2)
    masked, labels = mask(ids, MaskingConfig(strategy=strategy, probability=0.5))
    chosen = labels != IGNORED
    np.testing.assert_array_equal(labels[chosen], ids[chosen])
    np.testing.assert_array_equal(masked[~chosen], ids[~chosen])
    assert not (chosen & (ids < TOKENS.num_special)).any()
    has_text = (ids >= TOKENS.num_special).any(1)
    np.testing.assert_array_equal(chosen.any(1), has_text)
    replaced = masked[chosen & (masked != ids) & (masked != TOKENS.mask_id)]
    assert replaced.min() >= TOKENS.num_special
    assert replaced.max() < TOKENS.vocab_size
    assert (ids == make_batch(300, 64, special_share=0.2)).all(), "the input must stay as it was"


def test_a_row_does_not_depend_on_its_batch() -> None:
    ids, config = make_batch(64, 96), MaskingConfig()
    keys, share = sample_keys(3, [2] * 64, np.arange(64)), np.linspace(0.05, 0.6, 64)
    together = mask_batch(ids, keys, share, config, TOKENS)
    order = np.random.default_rng(0).permutation(64)
    for rows in (order[:1], order[1:20], order[20:]):
        parts = mask_batch(ids[rows], keys[rows], share[rows], config, TOKENS)
        for part, whole in zip(parts, together):
            np.testing.assert_array_equal(part, whole[rows])


def test_seed_epoch_and_sample_each_change_the_mask() -> None:
    ids = make_batch(50, 128, special_share=0)
    config = MaskingConfig()
    base = mask(ids, config)[1]
    np.testing.assert_array_equal(base, mask(ids, config)[1])
    for other in (mask(ids, config, seed=2)[1], mask(ids, config, epoch=1)[1]):
        assert (base != other).any(1).mean() > 0.9
    same_text = mask(np.repeat(ids[:1], 50, 0), config)[1]
    assert len(np.unique(same_text, axis=0)) > 40


def test_over_epochs_every_position_is_masked_alike() -> None:
    text = np.concatenate([[1], np.full(40, 9), [2]])
    ids = np.repeat(text[None], 4000, 0)
    keys = sample_keys(0, np.arange(4000), np.full(4000, 17))
    share = (mask_batch(ids, keys, np.full(4000, 0.15), MaskingConfig(), TOKENS)[1] != IGNORED).mean(0)[1:41]
    standard_error = np.sqrt(share.mean() * (1 - share.mean()) / 4000)
    assert np.abs(share - share.mean()).max() < 4.5 * standard_error


def test_max_spans_stops_short() -> None:
    ids = make_batch(100, 500, special_share=0)
    few = mask(ids, MaskingConfig(max_spans=3))[1] != IGNORED
    assert few.sum(1).max() <= 3 * MaskingConfig().max_span_length
    assert few.mean() < (mask(ids, MaskingConfig())[1] != IGNORED).mean() / 2


def test_shares_of_replacement() -> None:
    ids = make_batch(400, 128, special_share=0)
    for config in (MaskingConfig(mask_share=1.0, random_share=0.0), MaskingConfig(mask_share=0.0, random_share=0.0)):
        masked, labels = mask(ids, config)
        expected = np.where((labels != IGNORED) & (config.mask_share == 1.0), TOKENS.mask_id, ids)
        np.testing.assert_array_equal(masked, expected)


def test_the_probability_runs_on_a_straight_line() -> None:
    config = MaskingConfig(probability=0.30, final_probability=0.15)
    np.testing.assert_allclose(config.probability_at(np.array([0, 0.5, 1, 2])), [0.30, 0.225, 0.15, 0.15])
    np.testing.assert_allclose(replace(config, final_probability=None).probability_at(0.7), 0.30)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"strategy": "words"}, "masking.strategy"),
        ({"probability": 0.0}, "masking.probability"),
        ({"final_probability": 1.5}, "masking.final_probability"),
        ({"max_span_length": 0}, "masking.max_span_length"),
        ({"max_spans": 0}, "masking.max_spans"),
        ({"mask_share": 0.95}, "masking.mask_share"),
    ],
)
def test_impossible_settings_are_named(options: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        MaskingConfig(**options)


def test_random_numbers_are_uniform_and_addressable() -> None:
    keys = sample_keys(5, [0] * 200, np.arange(200))
    table = uniforms(keys, 2, 300)
    np.testing.assert_array_equal(table[:, :7], uniforms(keys, 2, 7))
    rows, columns = np.nonzero(table < 0.1)
    np.testing.assert_array_equal(uniforms_at(keys[rows], 2, columns), table[rows, columns])
    counts = np.histogram(table, 20, (0, 1))[0]
    assert ((counts - 3000) ** 2 / 3000).sum() < 50  # chi-square, 19 degrees of freedom: 50 is beyond 1 in 7,000
    others = [uniforms(keys, 3, 300), uniforms(keys + np.uint64(1), 2, 300), np.roll(table, 1, 1), np.roll(table, 1, 0)]
    for other in others:
        assert abs(np.corrcoef(table.ravel(), other.ravel())[0, 1]) < 4.5 / np.sqrt(table.size)
