"""Predictions in the layout that the BabyLM pipelines of 2024 and 2025 collate and submit."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from elc_composer.evaluation.aggregate import ScoredPairs
from elc_composer.evaluation.config import Ties

SET_NAMES = {"blimp": "blimp", "supplement": "blimp_supplement"}
"""Our names of the sets to the keys of a collated file; other sets keep their names."""


def predictions(sets: dict[str, ScoredPairs], ties: Ties = Ties.half) -> dict[str, Any]:
    """The preferred sentence of every pair.

    `{"blimp": {"<paradigm>": {"predictions": [{"id": "<paradigm>_0", "pred": "<sentence>"}, ...]}}}`, pairs counted
    within their paradigm in the order of the file. A pipeline's `predictions.json` of one task is the value of one
    set. The layout knows no ties: the good sentence stands for one unless `ties` is `bad`.
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
