"""Plans the forward passes for scoring: deduplicated input rows, and the target positions in each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from elc_composer.evaluation.config import Method
from elc_composer.evaluation.encoding import EncodedSentences

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class RowPlan:
    """Distinct rows, shortest first; each is one input sequence of the model.

    Two masked sentences that differ only at the mask are one row with two targets: both read the distribution that the
    model predicts there. So the good and the bad sentence of a pair often share rows.
    """

    rows: list[NDArray[np.int32]]
    """`[R_L, L]` ids, one array per length L, in ascending order; R rows in total."""
    slots: Ints
    """`[R + 1]`: the slots of row r (positions where the model predicts) are `slots[r] .. slots[r + 1]`."""
    slot_position: Ints
    """`[M]` position of each slot in its row."""
    targets: Ints
    """`[R + 1]`: the targets of row r are `targets[r] .. targets[r + 1]`."""
    target_slot: Ints
    """`[K]` slot at which each target is read."""
    target_token: Ints
    """`[K]` token of each target."""
    target_index: Ints
    """`[K]` index of the target among the inner tokens of all sentences, concatenated."""
    pad_token_id: int

    @property
    def n_rows(self) -> int:
        """R."""
        return len(self.slots) - 1

    def length_of(self, row: int) -> int:
        """Tokens of a row."""
        for group in self.rows:
            if row < len(group):
                return group.shape[1]
            row -= len(group)
        raise IndexError("the plan has no such row")

    def spans(self, tokens_per_batch: int, max_rows: int | None = None) -> list[tuple[int, int]]:
        """Ranges of rows for batches: rows of one length (no padding), longest first, at least one row each."""
        spans = []
        start = 0
        for group in self.rows:
            size = max(1, tokens_per_batch // group.shape[1])
            size = size if max_rows is None else min(size, max_rows)
            # Equal parts, so that no batch has only a few rows.
            parts = -(-len(group) // size)
            edges = start + np.linspace(0, len(group), parts + 1).round().astype(int)
            spans += list(zip(edges[:-1].tolist(), edges[1:].tolist()))
            start += len(group)
        return spans[::-1]

    def batch(self, start: int, stop: int) -> dict[str, Tensor]:
        """Rows `start .. stop` as tensors.

        Returns:
            `input_ids` `[B, T]` int64, `attention_mask` `[B, T]` bool, `masked_positions` `[M]` (flat, in B * T),
            `target_slot`, `target_token`, `target_index` `[K]` int64.
        """
        parts = list(self._parts(start, stop))
        width = max((part.shape[1] for part in parts), default=1)
        ids = np.full((stop - start, width), self.pad_token_id, np.int64)
        mask = np.zeros(ids.shape, bool)
        at = 0
        for part in parts:
            ids[at : at + len(part), : part.shape[1]] = part
            mask[at : at + len(part), : part.shape[1]] = True
            at += len(part)
        first_slot, last_slot = self.slots[start], self.slots[stop]
        row_of_slot = np.repeat(np.arange(stop - start), np.diff(self.slots[start : stop + 1]))
        chosen = slice(self.targets[start], self.targets[stop])
        arrays = {
            "input_ids": ids,
            "attention_mask": mask,
            "masked_positions": row_of_slot * width + self.slot_position[first_slot:last_slot],
            "target_slot": self.target_slot[chosen] - first_slot,
            "target_token": self.target_token[chosen],
            "target_index": self.target_index[chosen],
        }
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def _parts(self, start: int, stop: int) -> Iterator[NDArray[np.int32]]:
        at = 0
        for group in self.rows:
            first, last = max(start - at, 0), min(stop - at, len(group))
            if first < last:
                yield group[first:last]
            at += len(group)


def plan_rows(sentences: EncodedSentences, method: Method = Method.original) -> RowPlan:
    """Plan the rows, slots and targets that score these sentences; equal rows occur once."""
    lengths = np.array([len(ids) for ids in sentences.tokens], np.int64)
    inner_start = np.concatenate([[0], np.cumsum(sentences.inner_lengths)])[:-1]
    build = _causal_rows if method is Method.causal else _masked_rows
    parts = []
    for length in np.unique(lengths):
        members = np.flatnonzero(lengths == length)
        parts.append(build(sentences, members, inner_start[members], method))
    return _joined(parts, sentences.pad_token_id)


@dataclass
class _Group:
    """The plan of all sentences of one length; slots and targets are in row order."""

    rows: NDArray[np.int32]
    slots_per_row: Ints
    slot_position: Ints
    targets_per_row: Ints
    target_slot: Ints
    target_token: Ints
    target_index: Ints


def _masked_rows(sentences: EncodedSentences, members: Ints, inner_start: Ints, method: Method) -> _Group:
    ids = np.stack([sentences.tokens[i] for i in members])
    n, length = ids.shape
    first = sentences.prefix
    inner = length - first - sentences.suffix
    position = np.tile(np.arange(first, first + inner), n)
    tokens = ids[:, first : first + inner].reshape(-1)
    rows = np.repeat(ids, inner, axis=0)
    hidden = np.arange(length)[None, :] == position[:, None]
    if method is Method.within_word_l2r:
        assert sentences.words is not None, "encode with words=True"
        words = np.full((n, length), np.iinfo(np.int32).min, np.int32)
        words[:, first : first + inner] = np.stack([sentences.words[i] for i in members])
        words = np.repeat(words, inner, axis=0)
        own = np.take_along_axis(words, position[:, None], axis=1)
        hidden |= (words == own) & (np.arange(length)[None, :] > position[:, None])
    rows[hidden] = sentences.mask_token_id
    # The key includes the position of the mask, because a text can contain the mask token itself.
    key = np.ascontiguousarray(np.column_stack([rows, position.astype(np.int32)]))
    _, representative, row_of_target = _distinct(key)
    order = np.argsort(row_of_target, kind="stable")
    index = (inner_start[:, None] + np.arange(inner)).reshape(-1)
    return _Group(
        rows=rows[representative],
        slots_per_row=np.ones(len(representative), np.int64),
        slot_position=position[representative],
        targets_per_row=np.bincount(row_of_target, minlength=len(representative)),
        target_slot=row_of_target[order],
        target_token=tokens[order].astype(np.int64),
        target_index=index[order],
    )


def _causal_rows(sentences: EncodedSentences, members: Ints, inner_start: Ints, method: Method) -> _Group:
    del method
    ids = np.stack([sentences.tokens[i] for i in members])
    n, length = ids.shape
    # Without a beginning-of-text token nothing predicts the first token.
    first = max(sentences.prefix, 1)
    predicted = np.arange(first, length)
    return _Group(
        rows=ids,
        slots_per_row=np.full(n, len(predicted), np.int64),
        slot_position=np.tile(predicted - 1, n),
        targets_per_row=np.full(n, len(predicted), np.int64),
        target_slot=np.arange(n * len(predicted)),
        target_token=ids[:, first:].reshape(-1).astype(np.int64),
        target_index=(inner_start[:, None] + predicted[None, :] - sentences.prefix).reshape(-1),
    )


def _distinct(matrix: NDArray[np.int32]) -> tuple[Any, Ints, Ints]:
    """Distinct rows of a matrix, the index of the first occurrence of each, and the number of each row among them."""
    records = matrix.view(np.dtype((np.void, matrix.dtype.itemsize * matrix.shape[1]))).reshape(-1)
    values, first, inverse = np.unique(records, return_index=True, return_inverse=True)
    return values, first, inverse.reshape(-1)


def _joined(groups: list[_Group], pad_token_id: int) -> RowPlan:
    def joined(arrays: list[Ints]) -> Ints:
        return np.concatenate(arrays).astype(np.int64) if arrays else np.zeros(0, np.int64)

    slots_before = np.cumsum([0] + [len(group.slot_position) for group in groups])
    return RowPlan(
        rows=[group.rows for group in groups],
        slots=np.concatenate([[0], np.cumsum(joined([group.slots_per_row for group in groups]))]),
        slot_position=joined([group.slot_position for group in groups]),
        targets=np.concatenate([[0], np.cumsum(joined([group.targets_per_row for group in groups]))]),
        target_slot=joined([group.target_slot + before for group, before in zip(groups, slots_before)]),
        target_token=joined([group.target_token for group in groups]),
        target_index=joined([group.target_index for group in groups]),
        pad_token_id=pad_token_id,
    )
