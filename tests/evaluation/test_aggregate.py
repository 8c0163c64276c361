"""Aggregation of pair scores: averages, ties, counts, bootstrap intervals."""

from __future__ import annotations

import numpy as np
import pytest

from elc_composer.evaluation.aggregate import ScoredPairs, summarize
from elc_composer.evaluation.config import Ties
from elc_composer.evaluation.minimal_pairs import MinimalPair
from elc_composer.evaluation.predictions import predictions

ROWS = [
    ("a1", "A", -1.0, -2.0),
    ("a1", "A", -1.0, -2.0),
    ("a1", "A", -3.0, -2.0),
    ("a1", "A", -2.0, -2.0),
    ("a2", "A", -1.0, -2.0),
    ("b1", "B", -2.0, -1.0),
    ("b1", "B", -1.0, -2.0),
]


def scored(rows=ROWS) -> ScoredPairs:
    pairs = [MinimalPair("good", "bad", name, group, "syntax", str(i), "x") for i, (name, group, *_) in enumerate(rows)]
    tokens = np.array([[3, 3]] * (len(rows) - 1) + [[3, 4]])
    unknown = np.array([[1, 2]] + [[0, 0]] * (len(rows) - 1))
    return ScoredPairs(pairs, np.array([row[2:] for row in rows]), tokens, unknown)


def test_averages_over_paradigms_phenomena_and_pairs() -> None:
    summary = summarize(scored())
    assert summary["accuracy"]["macro_paradigms"] == pytest.approx((2.5 / 4 + 1 + 1 / 2) / 3)
    assert summary["accuracy"]["macro_phenomena"] == pytest.approx((3.5 / 5 + 1 / 2) / 2)
    assert summary["accuracy"]["micro"] == pytest.approx(4.5 / 7)
    assert summary["phenomena"]["A"]["accuracy"] == pytest.approx(3.5 / 5)
    assert summary["paradigms"]["a1"]["accuracy"] == pytest.approx(2.5 / 4)


@pytest.mark.parametrize(("ties", "right"), [(Ties.half, 2.5), (Ties.good, 3.0), (Ties.bad, 2.0)])
def test_ties_count_as_configured_and_are_reported(ties: Ties, right: float) -> None:
    summary = summarize(scored(), ties)
    assert summary["paradigms"]["a1"]["accuracy"] == pytest.approx(right / 4)
    assert (summary["ties"], summary["paradigms"]["a1"]["ties"], summary["paradigms"]["b1"]["ties"]) == (1, 1, 0)
    chosen = predictions({"blimp": scored()}, ties)["blimp"]["a1"]["predictions"]
    assert [entry["pred"] for entry in chosen] == ["good", "good", "bad", "bad" if ties is Ties.bad else "good"]


def test_unequal_lengths_and_unknown_tokens_are_counted() -> None:
    summary = summarize(scored())
    assert summary["unequal_length_pairs"] == 1
    assert (summary["pairs_with_unk"], summary["sentences_with_unk"]) == (1, 2)


def test_intervals_are_those_of_a_plain_bootstrap_and_repeat() -> None:
    rng = np.random.default_rng(5)
    rows = [(f"p{i % 4}", f"f{i % 2}", float(rng.random() < 0.5 + 0.1 * (i % 4)), 0.5) for i in range(400)]
    data = scored(rows)
    summary = summarize(data, seed=3)
    assert summary == summarize(data, seed=3)
    assert summary != summarize(data, seed=4)
    credit = data.credit(Ties.half)
    samples = [
        np.mean([rng.choice(credit[[i for i in range(400) if i % 4 == p]], 100).mean() for p in range(4)])
        for _ in range(3000)
    ]
    low, high = summary["interval_95"]["macro_paradigms"]
    assert (low, high) == pytest.approx(tuple(np.percentile(samples, [2.5, 97.5])), abs=0.01)
    assert low < summary["accuracy"]["macro_paradigms"] < high
