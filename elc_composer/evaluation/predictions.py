"""Predictions in the layout of the BabyLM pipelines of 2024 and 2025."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from elc_composer.evaluation.aggregate import ScoredPairs
from elc_composer.evaluation.config import Ties

SET_NAMES = {"blimp": "blimp", "supplement": "blimp_supplement"}
"""Names of our sets -> keys of a collated file; other sets keep their names."""


def predictions(sets: dict[str, ScoredPairs], ties: Ties = Ties.half) -> dict[str, Any]:
    """The preferred sentence of every pair.

    `{"blimp": {"<paradigm>": {"predictions": [{"id": "<paradigm>_0", "pred": "<sentence>"}, ...]}}}`; pairs are
    numbered within their paradigm, in the order of the file. The value of one set is what a pipeline writes as
    `predictions.json` for one task. The layout has no ties: a tie counts as the good sentence unless `ties` is `bad`.
    """
    layout: dict[str, Any] = {}
    for name, scored in sets.items():
        tasks: dict[str, list[dict[str, str]]] = defaultdict(list)
        for pair, (good, bad) in zip(scored.pairs, scored.scores.tolist()):
            prefers_good = good > bad or (good == bad and ties is not Ties.bad)
            sentence = pair.sentence_good if prefers_good else pair.sentence_bad
            entries = tasks[pair.paradigm]
            entries.append({"id": f"{pair.paradigm}_{len(entries)}", "pred": sentence})
        layout[SET_NAMES.get(name, name)] = {task: {"predictions": entries} for task, entries in tasks.items()}
    return layout
