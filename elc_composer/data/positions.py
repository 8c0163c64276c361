"""Where a microbatch's labels are, as a list of one length for all microbatches of a shape.

With it the model's head runs at labelled positions alone, yet no shape depends on what was masked and nothing must be
read back from a device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from composer.core.data_spec import default_split_batch

from elc_composer.data.masking import IGNORED, MaskingConfig

Batch = dict[str, Any]
MULTIPLE = 64
"""Counts are multiples of it: matrix sizes that hardware likes."""
DEVIATIONS = 6.0
"""Standard deviations of room: about one microbatch in 10^9 has more labels than that."""
OVERSHOOT, OVERSHOOT_VARIANCE = 2.0, 4.0
"""Tokens by which a sample's spans exceed the goal, with room: measured are a mean of 1.3 and a variance of 2.1."""


@dataclass(frozen=True)
class LabelPositions:
    """Splits a batch into microbatches and adds `masked_positions` `[M]` int64, flat in `B * T`, to each.

    M follows from the microbatch's shape and the masking's settings. Every labelled position is among them; the rest
    are others, no position twice. A microbatch with more labels than M, which is next to impossible, gets 2 M places,
    4 M, ... instead.
    """

    masking: MaskingConfig
    pin: bool = False
    """Put the positions into pinned memory, as the loader does with the rest."""

    def __call__(self, batch: Batch, microbatch_size: int | float) -> Sequence[Batch]:
        """What `DataSpec(split_batch=...)` wants; runs on the CPU, before anything is moved to a device."""
        # Composer also cuts microbatches once more, to drop repeated samples at the end of an evaluation.
        plain = {key: value for key, value in batch.items() if key != "masked_positions"}
        return [self.locate(part) for part in default_split_batch(plain, microbatch_size)]

    def locate(self, batch: Batch) -> Batch:
        """One microbatch with its positions; left as it is where its labels are on a device already."""
        labels = batch["labels"]
        if labels.device.type != "cpu":
            return batch
        labelled = (labels != IGNORED).flatten()
        found = labelled.nonzero().flatten()
        size = self.places(*labels.shape)
        while size < len(found):
            size = min(2 * size, labels.numel())
        others = labelled.logical_not().nonzero().flatten()
        positions = torch.cat([found, others[: size - len(found)]])
        return {**batch, "masked_positions": positions.pin_memory() if self.pin else positions}

    def places(self, rows: int, length: int) -> int:
        """M for microbatches of `rows` x `length`: the most labels that are to be expected, rounded up."""
        share = max(self.masking.probability, self.masking.final_probability or 0.0)
        text = max(length - 2, 0)
        mean, variance = max(share * text, 1.0), share * (1 - share) * text
        if self.masking.strategy == "span":
            mean, variance = mean + OVERSHOOT, variance + OVERSHOOT_VARIANCE
        most = rows * mean + DEVIATIONS * math.sqrt(rows * variance)
        return min(math.ceil(most / MULTIPLE) * MULTIPLE, rows * length)
