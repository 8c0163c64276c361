"""Composer evaluators for sets of minimal pairs."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from composer import DataSpec, Evaluator
from torchmetrics import Metric

from elc_composer.common.errors import ConfigError
from elc_composer.evaluation.config import MinimalPairsConfig
from elc_composer.evaluation.encoding import encode_pairs
from elc_composer.evaluation.in_training.interval import EvaluationInterval
from elc_composer.evaluation.in_training.metrics import MinimalPairAccuracy
from elc_composer.evaluation.in_training.pair_batches import Batch, PairBatches, count_pairs
from elc_composer.evaluation.minimal_pairs import MinimalPair, read_minimal_pairs


@dataclass
class MinimalPairEvaluators:
    """Evaluators for the Trainer and the metrics that the model must return from `get_metrics(is_train=False)`.

    Logged as `metrics/<label>/<name>`, each an accuracy between 0 and 1:

    | name           | over                                                    |
    |----------------|---------------------------------------------------------|
    | `overall`      | mean over paradigms (the headline)                      |
    | `phenomena`    | mean over phenomena (the layout of 2023)                |
    | `micro`        | all pairs alike                                         |
    | `<phenomenon>` | the phenomenon's pairs                                  |
    | `<paradigm>`   | the paradigm's pairs (`log_paradigms`)                  |
    """

    evaluators: list[Evaluator]
    metrics: dict[str, Metric]


def minimal_pair_evaluators(
    configs: Sequence[MinimalPairsConfig],
    tokenizer: Any,
    *,
    minimal_pairs: Mapping[str, list[MinimalPair]] | None = None,
    max_length: int | None = None,
    eval_interval: str = "1ep",
) -> MinimalPairEvaluators:
    """Read sets of minimal pairs and build what scores them in training.

    Args:
        configs: one for each set.
        tokenizer: a transformers tokenizer.
        minimal_pairs: all pairs of each set by its label, if they were read already; None reads them.
        max_length: most tokens that the model takes (see `max_sentence_length`).
        eval_interval: Composer time string, for sets that name none.

    Raises:
        ConfigError: a set without a path, two of one label, or an interval that is none.
        DataError: as `read_minimal_pairs` and `encode_sentences`.
    """
    labels = [config.label for config in configs]
    if unnamed := [config.label for config in configs if not config.path]:
        raise ConfigError(f"the set of minimal pairs {unnamed[0]!r} has no path: name its folder")
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise ConfigError(f"two sets of minimal pairs have the label {twice[0]!r}: give each its own")
    if minimal_pairs is None:
        minimal_pairs = {config.label: read_minimal_pairs(config.path) for config in configs}
    sets = {config.label: draw_subset(minimal_pairs[config.label], config) for config in configs}
    numbers: dict[tuple[str, str], int] = {}
    for label, pairs in sets.items():
        for pair in pairs:
            numbers.setdefault((label, pair.paradigm), len(numbers))
    members: dict[str, dict[int, str]] = defaultdict(dict)
    names_of: dict[str, list[str]] = {}
    for config in configs:
        named = _metric_members(sets[config.label], config, numbers)
        names_of[config.label] = list(named)
        for name, groups in named.items():
            members[name].update(groups)
    built = {name: _metric(groups) for name, groups in members.items()}
    headlines = {"overall", *(_metric_name(pair.phenomenon) for pairs in sets.values() for pair in pairs)}
    for name, metric in built.items():
        metric.headline = name in headlines
    metrics: dict[str, Metric] = {**built}
    evaluators = [
        Evaluator(
            label=config.label,
            dataloader=_data_spec(_pair_batches(sets[config.label], config, numbers, tokenizer, max_length)),
            # Composer matches names as regular expressions anywhere in a metric's name.
            metric_names=[f"^{re.escape(name)}$" for name in names_of[config.label]],
            eval_interval=EvaluationInterval(config.eval_interval or eval_interval),
            device_eval_microbatch_size=1,
        )
        for config in configs
    ]
    return MinimalPairEvaluators(evaluators, metrics)


def draw_subset(pairs: list[MinimalPair], config: MinimalPairsConfig) -> list[MinimalPair]:
    """Up to `subset_per_paradigm` pairs of each paradigm, in their order; the same ones for the same `subset_seed`."""
    if config.subset_per_paradigm is None:
        return pairs
    of: dict[str, list[int]] = defaultdict(list)
    for i, pair in enumerate(pairs):
        of[pair.paradigm].append(i)
    kept: list[int] = []
    for paradigm, indices in of.items():
        draw = random.Random(f"{config.subset_seed}/{paradigm}")
        kept += draw.sample(indices, min(len(indices), config.subset_per_paradigm))
    return [pairs[i] for i in sorted(kept)]


def _metric_members(
    pairs: list[MinimalPair], config: MinimalPairsConfig, numbers: dict[tuple[str, str], int]
) -> dict[str, dict[int, str]]:
    """Name of each metric -> the paradigms it covers, and the group that each is averaged in."""
    phenomenon_of = {numbers[config.label, pair.paradigm]: pair.phenomenon for pair in pairs}
    paradigm_of = {numbers[config.label, pair.paradigm]: pair.paradigm for pair in pairs}
    named = {
        "overall": {i: f"{config.label}/{paradigm}" for i, paradigm in paradigm_of.items()},
        "phenomena": {i: f"{config.label}/{phenomenon}" for i, phenomenon in phenomenon_of.items()},
        "micro": dict.fromkeys(paradigm_of, config.label),
    }
    for phenomenon in dict.fromkeys(phenomenon_of.values()):
        covered = [i for i, other in phenomenon_of.items() if other == phenomenon]
        named[_metric_name(phenomenon)] = dict.fromkeys(covered, config.label)
    if config.log_paradigms:
        for i, paradigm in paradigm_of.items():
            # A phenomenon that is named like one of its paradigms keeps the plain name.
            name = _metric_name(paradigm)
            if name in named and set(named[name]) != {i}:
                name = f"{name}_paradigm"
            named[name] = {i: config.label}
    return named


def _metric_name(name: str) -> str:
    return f"{name}_" if name in ("overall", "phenomena", "micro") else name


def _metric(groups: dict[int, str]) -> MinimalPairAccuracy:
    names = list(dict.fromkeys(groups.values()))
    return MinimalPairAccuracy(list(groups), [names.index(name) for name in groups.values()])


def _pair_batches(
    pairs: list[MinimalPair],
    config: MinimalPairsConfig,
    numbers: dict[tuple[str, str], int],
    tokenizer: Any,
    max_length: int | None,
) -> PairBatches:
    place, sentences = encode_pairs(tokenizer, pairs, config.scoring, max_length)
    return PairBatches(
        sentences,
        np.array([[place[pair.sentence_good], place[pair.sentence_bad]] for pair in pairs]),
        np.array([numbers[config.label, pair.paradigm] for pair in pairs]),
        len(numbers),
        config.scoring,
        config.ties,
    )


def _data_spec(batches: PairBatches) -> DataSpec:
    whole: Callable[[Batch, Any], list[Batch]] = lambda batch, size: [batch]  # noqa: E731
    return DataSpec(
        batches,
        split_batch=whole,
        get_num_samples_in_batch=count_pairs,
        get_num_tokens_in_batch=lambda batch: int(batch["attention_mask"].sum()),
    )
