"""Tokenizes the examples of a task once and collates batches, padded to their longest input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

from elc_composer.finetuning.files import Examples

MULTIPLE = 8
"""Lengths of right-padded batches are rounded up to a multiple of this, so that few shapes occur."""
EVAL_BATCH = 64
SEED_STRIDE = 100_003
"""Distance between the shuffles of two seeds: the sampler adds the epoch to its seed."""
Batch = dict[str, Tensor]


@dataclass
class Encoded(Dataset[int]):
    """Token ids of examples; item i is the number i."""

    ids: list[list[int]]
    types: list[list[int]] | None
    labels: list[int]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> int:
        return index


@dataclass(frozen=True)
class Padding:
    """How inputs are padded."""

    token: int
    """Id of the padding token."""
    side: str
    """`left` or `right`."""
    exact: bool
    """The amount of padding changes a model's output."""


@dataclass(frozen=True)
class Collator:
    """Pads the inputs of a batch: `input_ids`, `attention_mask` `[B, T]`, `labels`, `index` `[B]`, all int64.

    Where padding does not change a model's output, examples are sorted by length and lengths are rounded up. Elsewhere
    (`exact`) the batch is what the pipelines make: in the order drawn, padded to its longest input.
    """

    data: Encoded
    padding: Padding

    def __call__(self, chosen: Sequence[int]) -> Batch:
        """The batch of these examples."""
        if not self.padding.exact:
            chosen = sorted(chosen, key=lambda i: len(self.data.ids[i]))
        rows = [self.data.ids[i] for i in chosen]
        length = max(map(len, rows))
        if not self.padding.exact:
            length = -(-length // MULTIPLE) * MULTIPLE
        batch = {
            "input_ids": self._pad(rows, length, self.padding.token),
            "attention_mask": self._pad([[1] * len(row) for row in rows], length, 0),
            "labels": torch.tensor([self.data.labels[i] for i in chosen]),
            "index": torch.tensor(list(chosen)),
        }
        if self.data.types is not None:
            batch["token_type_ids"] = self._pad([self.data.types[i] for i in chosen], length, 0)
        return batch

    def _pad(self, rows: Sequence[list[int]], length: int, value: int) -> Tensor:
        filled = torch.full((len(rows), length), value)
        for target, row in zip(filled, rows):
            if self.padding.side == "right":
                target[: len(row)] = torch.tensor(row)
            else:
                target[length - len(row) :] = torch.tensor(row)
        return filled


def split_batch(batch: Batch, size: int, trim: bool) -> list[Batch]:
    """Microbatches of at most `size` examples; `trim` removes the padding that none of a microbatch's inputs needs."""
    count = len(batch["labels"])
    parts = [{name: value[start : start + size] for name, value in batch.items()} for start in range(0, count, size)]
    if not trim:
        return parts
    return [_trimmed(part) for part in parts]


def _trimmed(batch: Batch) -> Batch:
    longest = int(batch["attention_mask"].sum(1).max())
    length = -(-longest // MULTIPLE) * MULTIPLE
    return {name: value[:, :length] if value.dim() == 2 else value for name, value in batch.items()}


def encode(examples: Examples, tokenizer: Any, max_length: int, *, token_types: bool = False) -> Encoded:
    """Token ids of all examples, cut to `max_length` tokens; of a pair, the longer text is cut first.

    `token_types` also keeps the segment ids of tokenizers that give them.
    """
    texts = (examples.first,) if examples.second is None else (examples.first, examples.second)
    found = tokenizer(*texts, truncation=True, max_length=max_length)
    types = found.get("token_type_ids") if token_types else None
    return Encoded(found["input_ids"], types, examples.labels)


def train_loader(data: Encoded, padding: Padding, *, batch_size: int, drop_last: bool, seed: int) -> DataLoader[Any]:
    """Shuffled batches whose order depends on the seed and the epoch only (Composer sets the sampler's epoch)."""
    sampler: DistributedSampler[int] = DistributedSampler(
        data, num_replicas=1, rank=0, shuffle=True, seed=seed * SEED_STRIDE
    )
    return DataLoader(
        data, batch_size=batch_size, sampler=sampler, drop_last=drop_last, collate_fn=Collator(data, padding)
    )


def eval_loader(data: Encoded, padding: Padding) -> DataLoader[Any]:
    """Batches of all examples, in order of length unless padding is exact."""
    order = list(range(len(data)))
    if not padding.exact:
        order.sort(key=lambda i: len(data.ids[i]))
    # DataLoader's type has only integer samplers; a list of numbers is one.
    return DataLoader(data, batch_size=EVAL_BATCH, sampler=order, collate_fn=Collator(data, padding))
