"""Batches of complete minimal pairs for evaluation in Composer's loop."""

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
    """An iterable of batches of complete pairs; the pairs are partitioned over the ranks.

    Pairs that share a sentence are in one batch, so that the sentence is scored once. All ranks iterate equally often,
    because Composer and FSDP communicate in every step: a rank that runs out of batches repeats its first one without
    pairs.

    A batch has `input_ids` `[B, T]` int64, `attention_mask` `[B, T]` bool, `labels` `[B, T]` int64 (-100 except at the
    M predicted positions, one per row for masked models), and

    - `target_slot` `[K]`: index of the prediction (0 to M-1, along the rows) at which a log-probability is read,
    - `target_token` `[K]`: its token,
    - `target_sentence` `[K]`: its sentence among the batch's S sentences,
    - `sentence_divisor` `[S]`: divisor of the summed log-probabilities: 1, or the sentence's number of tokens,
    - `pair_sentences` `[P, 2]`: the good and the bad sentence of each pair,
    - `pair_paradigm` `[P]`: number of its paradigm; `paradigm_pairs` `[G]`: number of pairs per paradigm,
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
        """Group the pairs into batches.

        Args:
            sentences: N distinct sentences.
            pairs: `[P, 2]` indices of the good and the bad sentence.
            paradigms: `[P]` numbers of their paradigms, below `n_paradigms`.
            n_paradigms: G.
            scoring: method and tokens per batch.
            ties: credit of pairs with equal scores.
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
    # Several targets can share a position. The labels keep one of them, for models that compute a loss.
    labels[batch["masked_positions"][batch["target_slot"]]] = batch["target_token"]
    return labels.view_as(batch["input_ids"])


def _without_pairs(batch: Batch) -> Batch:
    none = {name: batch[name][:0] for name in ("pair_sentences", "pair_paradigm")}
    return {**batch, **none, "paradigm_pairs": torch.zeros_like(batch["paradigm_pairs"])}


def _pair_costs(sentences: EncodedSentences, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """`[P, 2]` maximum number of rows of each pair, and their length."""
    lengths = np.array([len(ids) for ids in sentences.tokens], np.int64)[pairs]
    return np.stack([sentences.inner_lengths[pairs].sum(1), lengths.max(1)], axis=1)


def _group_pairs(pairs: NDArray[np.int64], costs: NDArray[np.int64], budget: int) -> list[list[int]]:
    """Batches of pairs of similar length, families together, each within the budget of padded tokens if possible."""
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
    """Indices of pairs; pairs that are connected by shared sentences are in one list (union-find)."""
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
