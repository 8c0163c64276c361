"""Aggregates pair scores to accuracies per paradigm, per phenomenon, and to three averages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elc_composer.evaluation.config import Ties
from elc_composer.evaluation.minimal_pairs import MinimalPair

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ScoredPairs:
    """P minimal pairs with their scores; column 0: good sentence, column 1: bad sentence."""

    pairs: list[MinimalPair]
    scores: Floats
    """`[P, 2]` in nats."""
    tokens: NDArray[np.int64]
    """`[P, 2]` without special tokens."""
    unknown: NDArray[np.int64]
    """`[P, 2]` number of [UNK]."""

    def subset(self, chosen: NDArray[np.bool_]) -> ScoredPairs:
        """The pairs where `chosen` `[P]` is True."""
        pairs = [pair for pair, take in zip(self.pairs, chosen) if take]
        return ScoredPairs(pairs, self.scores[chosen], self.tokens[chosen], self.unknown[chosen])

    def credit(self, ties: Ties) -> Floats:
        """`[P]` credit of each pair: 1 if the good sentence scores higher, 0 if lower, `ties.credit` if equal."""
        good, bad = self.scores[:, 0], self.scores[:, 1]
        return np.where(good == bad, ties.credit, (good > bad).astype(float))


def summarize(scored: ScoredPairs, ties: Ties = Ties.half, seed: int = 0, resamples: int = 2000) -> dict[str, Any]:
    """Accuracies of one set as JSON values.

    - `macro_paradigms`: mean of the paradigms' accuracies (BabyLM's headline since 2024),
    - `macro_phenomena`: mean of the phenomena's accuracies, each over all its pairs (as in the 2023 pipeline),
    - `micro`: over all pairs, equally weighted.

    Each has the 95 % percentile interval of a bootstrap that resamples pairs within each paradigm. It measures the
    uncertainty from the choice of sentences, not from the choice of paradigms or the training seed.
    """
    credit = scored.credit(ties)
    paradigm_names, paradigm = _numbered([pair.paradigm for pair in scored.pairs])
    phenomenon_by_paradigm = {pair.paradigm: pair.phenomenon for pair in scored.pairs}
    phenomenon_names, phenomenon = _numbered([phenomenon_by_paradigm[name] for name in paradigm_names])
    tie = scored.scores[:, 0] == scored.scores[:, 1]
    counts = np.bincount(paradigm)
    sums: Floats = np.bincount(paradigm, credit).astype(np.float64)
    drawn = _resampled_sums(credit, paradigm, len(counts), np.random.default_rng(seed), resamples)
    accuracies = _averages(sums[None], counts, phenomenon)
    samples = _averages(drawn, counts, phenomenon)
    members = [np.flatnonzero(phenomenon == i) for i in range(len(phenomenon_names))]
    return {
        "pairs": len(scored.pairs),
        "accuracy": {name: float(values[0]) for name, values in accuracies.items()},
        "interval_95": {name: _interval(values) for name, values in samples.items()},
        "ties": int(tie.sum()),
        "unequal_length_pairs": int((scored.tokens[:, 0] != scored.tokens[:, 1]).sum()),
        "pairs_with_unk": int((scored.unknown.sum(1) > 0).sum()),
        "sentences_with_unk": int((scored.unknown > 0).sum()),
        "phenomena": {
            name: {
                "pairs": int(counts[own].sum()),
                "accuracy": float(sums[own].sum() / counts[own].sum()),
                "interval_95": _interval(drawn[:, own].sum(1) / counts[own].sum()),
            }
            for name, own in zip(phenomenon_names, members)
        },
        "paradigms": {
            name: {
                "phenomenon": phenomenon_by_paradigm[name],
                "pairs": int(counts[i]),
                "accuracy": float(sums[i] / counts[i]),
                "interval_95": _interval(drawn[:, i] / counts[i]),
                "ties": int(tie[paradigm == i].sum()),
                "unequal_length_pairs": int((scored.tokens[paradigm == i, 0] != scored.tokens[paradigm == i, 1]).sum()),
                "pairs_with_unk": int((scored.unknown[paradigm == i].sum(1) > 0).sum()),
            }
            for i, name in enumerate(paradigm_names)
        },
    }


def _numbered(names: list[str]) -> tuple[list[str], NDArray[np.int64]]:
    distinct = list(dict.fromkeys(names))
    place = {name: i for i, name in enumerate(distinct)}
    return distinct, np.array([place[name] for name in names])


def _resampled_sums(
    credit: Floats, paradigm: NDArray[np.int64], n: int, rng: np.random.Generator, resamples: int
) -> Floats:
    """`[resamples, n]` total credit of each paradigm in bootstrap samples.

    A credit has at most three values, so that a sample is one multinomial draw of their counts.
    """
    drawn = np.zeros((resamples, n))
    for i in range(n):
        values, counts = np.unique(credit[paradigm == i], return_counts=True)
        total = int(counts.sum())
        drawn[:, i] = rng.multinomial(total, counts / total, size=resamples) @ values
    return drawn


def _averages(sums: Floats, counts: NDArray[np.int64], phenomenon: NDArray[np.int64]) -> dict[str, Floats]:
    """`[n, paradigms]` sums of credit to `[n]` averages."""
    covers = np.eye(phenomenon.max() + 1)[phenomenon]
    return {
        "macro_paradigms": (sums / counts).mean(1),
        "macro_phenomena": ((sums @ covers) / (counts @ covers)).mean(1),
        "micro": sums.sum(1) / counts.sum(),
    }


def _interval(samples: Floats) -> list[float]:
    low, high = np.percentile(samples, [2.5, 97.5])
    return [float(low), float(high)]
