"""Batched masking against the direct implementation of the published rules, and each rule by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from elc_composer.common.errors import ConfigError
from elc_composer.data import masking
from elc_composer.data.masking import IGNORED, MaskingConfig, TokenIds, mask_batch
from elc_composer.data.random import REPLACEMENT, sample_keys, uniforms, uniforms_at
from tests.data.masking_reference import mask_sample

TOKENS = TokenIds(vocab_size=500)
PAD, PAR, TAB = 3, 5, 6
CERTAIN = 1 - 1e-9
"""A probability at which every maskable token counts towards the goal."""


def make_batch(rows: int, length: int, seed: int = 0, special_share: float = 0.1) -> np.ndarray:
    """Sequences of 0 to length - 2 text tokens, some of them [PAR] or [TAB], with [CLS], [SEP] and padding."""
    rng = np.random.default_rng(seed)
    ids = np.full((rows, length), PAD)
    for row, size in zip(ids, rng.integers(0, length - 1, rows)):
        row[: size + 2] = [1, *rng.integers(7, TOKENS.vocab_size, size), 2]
        inner = row[1 : size + 1]
        special = rng.random(size) < special_share
        inner[special] = rng.choice([PAR, TAB], special.sum())
    return ids


def mask(ids: np.ndarray, config: MaskingConfig, seed: int = 1, epoch: int = 0, tokens: TokenIds = TOKENS):
    rows = len(ids)
    keys = sample_keys(seed, [epoch] * rows, np.arange(rows))
    return mask_batch(ids, keys, np.full(rows, config.probability), config, tokens)


@pytest.mark.parametrize("strategy", ["span", "token"])
@pytest.mark.parametrize(
    ("length", "probability", "options"),
    [
        (128, 0.15, {}),
        (128, 0.3, {"max_span_length": 3}),
        (40, 0.95, {}),
        (40, 0.95, {"max_spans": None}),
        (33, 0.01, {"max_span_length": 1}),
        (300, 0.4, {"max_spans": 7}),
        (300, 0.6, {"mask_share": 0.3, "random_share": 0.3}),
        (3, 0.9, {}),
    ],
)
def test_batch_equals_direct_implementation(strategy: str, length: int, probability: float, options: dict) -> None:
    config = MaskingConfig(strategy=strategy, probability=probability, **options)
    ids = make_batch(60, length)
    masked, labels = mask(ids, config)
    keys = sample_keys(1, [0] * 60, np.arange(60))
    for row in range(60):
        expected_ids, expected_labels = mask_sample(ids[row], keys[row : row + 1], probability, config, TOKENS)
        np.testing.assert_array_equal(masked[row], expected_ids)
        np.testing.assert_array_equal(labels[row], expected_labels)


def test_batch_equals_direct_implementation_where_the_last_position_is_text() -> None:
    """The goal may then exceed what spans can reach; without a limit of spans this must still end."""
    ids = np.full((50, 6), 9)
    keys = sample_keys(1, [0] * 50, np.arange(50))
    for max_spans in (100, None):
        config = MaskingConfig(probability=0.9, max_spans=max_spans)
        masked, labels = mask(ids, config)
        assert (labels[:, -1] == IGNORED).all()
        for row in range(50) if max_spans else ():
            expected = mask_sample(ids[row], keys[row : row + 1], 0.9, config, TOKENS)
            np.testing.assert_array_equal(np.stack([masked[row], labels[row]]), np.stack(expected))


@pytest.mark.parametrize("strategy", ["span", "token"])
def test_labels_only_where_masked_and_ids_below_tab_never(strategy: str) -> None:
    ids = make_batch(300, 64, special_share=0.3)
    masked, labels = mask(ids, MaskingConfig(strategy=strategy, probability=0.5))
    chosen = labels != IGNORED
    np.testing.assert_array_equal(labels[chosen], ids[chosen])
    np.testing.assert_array_equal(masked[~chosen], ids[~chosen])
    assert not (chosen & (ids < TAB)).any()
    assert 0.3 < chosen[ids == TAB].mean() < 0.7
    assert (ids == make_batch(300, 64, special_share=0.3)).all(), "the input must stay unchanged"


@pytest.mark.parametrize("strategy", ["span", "token"])
def test_random_replacements_are_uniform_from_par_to_the_end_of_the_vocabulary(strategy: str) -> None:
    tokens = TokenIds(vocab_size=25)
    ids = np.full((2000, 64), 9)
    config = MaskingConfig(strategy=strategy, probability=0.5, mask_share=0.0, random_share=1.0)
    masked, labels = mask(ids, config, tokens=tokens)
    counts = np.bincount(masked[labels != IGNORED], minlength=25)
    assert counts[:PAR].sum() == 0
    expected = counts.sum() / 20
    assert (np.abs(counts[PAR:] - expected) < 4.5 * np.sqrt(expected)).all()


@pytest.mark.parametrize("strategy", ["span", "token"])
def test_share_of_samples_without_label_is_that_of_the_binomial_draw(strategy: str) -> None:
    """20 tokens at 5 %: 0.95 ** 20 of the samples have none."""
    rows = 20_000
    ids = np.repeat(np.array([[1, *[9] * 20, 2]]), rows, 0)
    labels = mask(ids, MaskingConfig(strategy=strategy, probability=0.05))[1]
    expected = 0.95**20
    without = (labels == IGNORED).all(1).mean()
    assert abs(without - expected) < 4 * np.sqrt(expected * (1 - expected) / rows)


def length_law(max_span_length: int = 9) -> np.ndarray:
    """Probability of each span length from 0 on: a geometric variable modulo `max_span_length` + 1."""
    modulus = max_span_length + 1
    values = np.arange(1, 300)
    return np.bincount(values % modulus, weights=(1 / 3) * (2 / 3) ** (values - 1), minlength=modulus)


def one_span(length: int, rows: int = 60_000, **options: int) -> np.ndarray:
    """Masked positions `[rows, length]` after a single span over text at every position."""
    ids = np.full((rows, length), 9)
    return mask(ids, MaskingConfig(probability=CERTAIN, max_spans=1, **options))[1] != IGNORED


@pytest.mark.parametrize("longest", [9, 4, 1])
def test_a_span_covers_each_position_but_the_last_with_the_probability_of_the_rules(longest: int) -> None:
    """Starts are uniform over -(L - 1) to T + L - 1: each position before the last is in L of these T + 2 L - 1."""
    length, rows = 12, 60_000
    chosen = one_span(length, rows, max_span_length=longest)
    law, sizes = length_law(longest), np.arange(longest + 1)
    expected = (law * sizes / (length + 2 * sizes - 1)).sum()
    assert not chosen[:, -1].any()
    standard_error = np.sqrt(expected * (1 - expected) / rows)
    assert np.abs(chosen[:, :-1].mean(0) - expected).max() < 4.5 * standard_error


def test_share_of_empty_draws_and_lengths_of_spans() -> None:
    """A span masks nothing if its length is 0 or it lies beyond the last position but one."""
    length, rows = 40, 60_000
    chosen = one_span(length, rows)
    law, sizes = length_law(), np.arange(1, 10)
    starts = length + 2 * sizes - 1
    empty = law[0] + (law[1:] * (1 - (length + sizes - 2) / starts)).sum()
    found = (~chosen.any(1)).mean()
    assert abs(found - empty) < 4.5 * np.sqrt(empty * (1 - empty) / rows)
    # Spans that touch neither end are uncut: their lengths follow the law, weighted by the starts that keep inside.
    inside = chosen.any(1) & ~chosen[:, 0] & ~chosen[:, -2]
    counts = np.bincount(chosen[inside].sum(1), minlength=10)[1:]
    weights = law[1:] * (length - 2 - sizes) / starts
    expected = weights * rows
    assert (np.abs(counts - expected) < 4.5 * np.sqrt(expected)).all()


def test_the_replacement_of_the_later_span_stands_where_spans_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    """[MASK] over 1 to 5, then `kept` over 4 to 8: positions 4 and 5 have their tokens again, all 8 labels stand."""
    keys = sample_keys(0, np.zeros(500), np.arange(500))
    decisions = uniforms(keys, REPLACEMENT, 2)
    key = keys[(decisions[:, 0] < 0.8) & (decisions[:, 1] >= 0.9)][:1]
    spans = np.array([[1, 4]]), np.array([[5, 5]])
    monkeypatch.setattr(masking, "_draw_spans", lambda *_: spans)
    ids = np.arange(10, 26)[None]
    config = MaskingConfig(probability=CERTAIN, max_spans=2)
    masked, labels = mask_batch(ids, key, np.array([CERTAIN]), config, TOKENS)
    assert masked[0].tolist() == [10, 4, 4, 4, *range(14, 26)]
    assert labels[0].tolist() == [IGNORED, *range(11, 19), *[IGNORED] * 7]


def test_drawing_stops_with_the_span_that_reaches_the_goal(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = sample_keys(0, np.zeros(2000), np.arange(2000))
    ids = np.arange(10, 40)[None]
    share = np.array([0.2])
    goals = np.array([masking._coins(keys[i : i + 1], ids >= TAB, share).sum() for i in range(2000)])
    key = keys[goals == 5][:1]
    spans = np.array([[0, 2, 20, 3]]), np.array([[3, 2, 0, 9]])
    monkeypatch.setattr(masking, "_draw_spans", lambda *_: spans)
    labels = mask_batch(ids, key, share, MaskingConfig(max_spans=4), TOKENS)[1]
    assert np.flatnonzero(labels[0] != IGNORED).tolist() == list(range(12))
    key = keys[goals == 4][:1]
    labels = mask_batch(ids, key, share, MaskingConfig(max_spans=4), TOKENS)[1]
    assert np.flatnonzero(labels[0] != IGNORED).tolist() == [0, 1, 2, 3]


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
        assert (base != other).any(1).mean() > 0.8
    same_text = mask(np.repeat(ids[:1], 50, 0), config)[1]
    assert len(np.unique(same_text, axis=0)) > 40


def test_over_epochs_all_positions_are_masked_equally_often() -> None:
    text = np.concatenate([[1], np.full(40, 9), [2]])
    ids = np.repeat(text[None], 4000, 0)
    keys = sample_keys(0, np.arange(4000), np.full(4000, 17))
    share = (mask_batch(ids, keys, np.full(4000, 0.15), MaskingConfig(), TOKENS)[1] != IGNORED).mean(0)[1:41]
    standard_error = np.sqrt(share.mean() * (1 - share.mean()) / 4000)
    assert np.abs(share - share.mean()).max() < 4.5 * standard_error


def test_max_spans_limits_the_draws_and_is_100_by_default() -> None:
    ids = make_batch(100, 500, special_share=0)
    few = mask(ids, MaskingConfig(max_spans=3))[1] != IGNORED
    assert few.sum(1).max() <= 3 * MaskingConfig().max_span_length
    assert few.mean() < (mask(ids, MaskingConfig())[1] != IGNORED).mean() / 2
    long = np.full((50, 1000), 9)
    default, limited, unlimited = (
        (mask(long, MaskingConfig(probability=0.5, **options))[1] != IGNORED).mean()
        for options in ({}, {"max_spans": 100}, {"max_spans": None})
    )
    assert default == limited < 0.3
    assert abs(unlimited - 0.5) < 0.01


def test_shares_of_replacement() -> None:
    ids = make_batch(400, 128, special_share=0)
    for config in (MaskingConfig(mask_share=1.0, random_share=0.0), MaskingConfig(mask_share=0.0, random_share=0.0)):
        masked, labels = mask(ids, config)
        expected = np.where((labels != IGNORED) & (config.mask_share == 1.0), TOKENS.mask_id, ids)
        np.testing.assert_array_equal(masked, expected)


def test_the_probability_changes_linearly() -> None:
    config = MaskingConfig(probability=0.30, final_probability=0.15)
    np.testing.assert_allclose(config.probability_at(np.array([0, 0.5, 1, 2])), [0.30, 0.225, 0.15, 0.15])
    np.testing.assert_allclose(replace(config, final_probability=None).probability_at(0.7), 0.30)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"strategy": "words"}, "masking.strategy"),
        ({"rules": "guessed"}, "masking.rules is 'guessed'; use 'published' or 'fitted'"),
        ({"probability": 0.0}, "masking.probability"),
        ({"final_probability": 1.5}, "masking.final_probability"),
        ({"max_span_length": 0}, "masking.max_span_length"),
        ({"max_spans": 0}, "masking.max_spans"),
        ({"mask_share": 0.95}, "masking.mask_share"),
    ],
)
def test_error_for_an_invalid_setting_names_its_key(options: dict, named: str) -> None:
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
