"""Batches of whole minimal pairs, for evaluation inside Composer's loop."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from composer.utils import dist
from numpy.typing import NDArray
from torch import Tensor

from elc_composer.evaluation.config import Reduction, ScoringConfig, Ties
from elc_composer.evaluation.encoding import EncodedSentences
from elc_composer.evaluation.rows import plan_rows

Batch = dict[str, Tensor]


class PairBatches:
    """An iterable of batches in which every pair is complete; each rank gets its share, none gets a pair of another.

    Pairs that share a sentence stay together, so that it is scored once. All ranks iterate equally often, since
    Composer and FSDP communicate in every step: where batches run out, a rank repeats its first without its pairs.

    A batch holds `input_ids` `[B, T]` int64, `attention_mask` `[B, T]` bool, `labels` `[B, T]` int64 (-100 except where
    the model predicts: M places, one a row for masked models), and

    - `target_slot` `[K]`: in which of the M predictions, counted along the rows, a log-probability is read,
    - `target_token` `[K]`: of which token,
    - `target_sentence` `[K]`: to which of the batch's S sentences it belongs,
    - `sentence_divisor` `[S]`: what a sum of log-probabilities is divided by: 1, or the tokens of the sentence,
    - `pair_sentences` `[P, 2]`: the good and the bad sentence of each pair,
    - `pair_paradigm` `[P]`: number of the paradigm; `paradigm_pairs` `[G]`: the batch's pairs of each paradigm,
    - `temperature` and `tie_credit`, both scalars.
    """

    def __init__(
        self,
        sentences: EncodedSentences,
        pairs: NDArray[np.int64],
        paradigms: NDArray[np.int64],
        n_paradigms: int,
        scoring: ScoringConfig,
        ties: Ties = Ties.half,
    ) -> None:
        """Plan.

        Args:
            sentences: N distinct sentences.
            pairs: `[P, 2]` indices of good and bad sentence.
            paradigms: `[P]` their paradigms' numbers, below `n_paradigms`.
            n_paradigms: G.
            scoring: method, and tokens of a batch.
            ties: what pairs count whose scores are equal.
        """
        self.sentences = sentences
        self.pairs = pairs
        self.paradigms = paradigms
        self.n_paradigms = n_paradigms
        self.scoring = scoring
        self.ties = ties
        self.groups = _group_pairs(pairs, _pair_costs(sentences, pairs), scoring.tokens_per_batch)

    def __len__(self) -> int:
        return -(-len(self.groups) // dist.get_world_size())

    def __iter__(self) -> Iterator[Batch]:
        own = self.groups[dist.get_global_rank() :: dist.get_world_size()]
        for step in range(len(self)):
            if step < len(own):
                yield self.build(own[step])
            else:
                yield _without_pairs(self.build((own or self.groups)[0]))

    def build(self, members: Sequence[int]) -> Batch:
        """The batch of these pairs."""
        pairs = self.pairs[list(members)]
        used, local = np.unique(pairs, return_inverse=True)
        sentences = self.sentences.select(used)
        plan = plan_rows(sentences, self.scoring.method)
        batch = plan.batch(0, plan.n_rows)
        lengths = torch.from_numpy(sentences.inner_lengths)
        paradigms = self.paradigms[list(members)]
        owner = torch.repeat_interleave(torch.arange(len(used)), lengths)
        return {
            "input_ids": batch["input_ids"],
            "attention_mask": batch["attention_mask"],
            "labels": _labels(batch),
            "target_slot": batch["target_slot"],
            "target_token": batch["target_token"],
            "target_sentence": owner[batch["target_index"]],
            "sentence_divisor": lengths if self.scoring.reduction is Reduction.mean else torch.ones_like(lengths),
            "pair_sentences": torch.from_numpy(local.reshape(-1, 2)),
            "pair_paradigm": torch.from_numpy(paradigms),
            "paradigm_pairs": torch.from_numpy(np.bincount(paradigms, minlength=self.n_paradigms)).float(),
            "temperature": torch.tensor(self.scoring.temperature, dtype=torch.float32),
            "tie_credit": torch.tensor(self.ties.credit, dtype=torch.float32),
        }


def is_pair_batch(batch: object) -> bool:
    """Whether a batch comes from `PairBatches`."""
    return isinstance(batch, dict) and "pair_sentences" in batch


def count_pairs(batch: Batch) -> int:
    """Pairs in a batch."""
    return len(batch["pair_paradigm"])


def _labels(batch: Batch) -> Tensor:
    labels = torch.full((batch["input_ids"].numel(),), -100)
    # Several targets may be read at one place; the model's own loss sees one of them.
    labels[batch["masked_positions"][batch["target_slot"]]] = batch["target_token"]
    return labels.view_as(batch["input_ids"])


def _without_pairs(batch: Batch) -> Batch:
    none = {name: batch[name][:0] for name in ("pair_sentences", "pair_paradigm")}
    return {**batch, **none, "paradigm_pairs": torch.zeros_like(batch["paradigm_pairs"])}


def _pair_costs(sentences: EncodedSentences, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """`[P, 2]` rows of each pair at most, and their length."""
    lengths = np.array([len(ids) for ids in sentences.tokens], np.int64)[pairs]
    return np.stack([sentences.inner_lengths[pairs].sum(1), lengths.max(1)], axis=1)


def _group_pairs(pairs: NDArray[np.int64], costs: NDArray[np.int64], budget: int) -> list[list[int]]:
    """Pairs of similar length, those with a common sentence together, cut where padded tokens exceed the budget."""
    families = _families(pairs)
    families.sort(key=lambda family: (max(costs[i, 1] for i in family), family[0]))
    groups: list[list[int]] = []
    rows = 0
    for family in families:
        more, width = int(sum(costs[i, 0] for i in family)), int(max(costs[i, 1] for i in family))
        if groups and (rows + more) * width <= budget:
            groups[-1] += family
            rows += more
        else:
            groups.append(list(family))
            rows = more
    return groups


def _families(pairs: NDArray[np.int64]) -> list[list[int]]:
    """Indices of pairs, those connected by common sentences in one list."""
    parent: dict[int, int] = {}

    def root(x: int) -> int:
        while (up := parent.setdefault(x, x)) != x:
            parent[x] = x = parent[up]
        return x

    for good, bad in pairs.tolist():
        parent[root(good)] = root(bad)
    roots = [root(good) for good in pairs[:, 0].tolist()]
    order = sorted(range(len(pairs)), key=lambda i: (roots[i], i))
    return [list(family) for _, family in itertools.groupby(order, key=lambda i: roots[i])]
