"""Adds a fixed-length index list of the labelled positions to each microbatch, so that tensor shapes stay static.

The head of the model then runs at labelled positions only, without shapes that depend on the masks and without reading
anything back from a device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from elc_composer.data.masking import IGNORED, MaskingConfig

Batch = dict[str, Any]
MULTIPLE = 64
"""Lengths of the list are multiples of this: matrix sizes that run fast on GPUs."""
DEVIATIONS = 6.0
"""Standard deviations of room: about one microbatch in 10^9 has more labels than that."""
OVERSHOOT, OVERSHOOT_VARIANCE = 2.0, 4.0
"""Tokens by which the last span of a sample exceeds the goal, with room: measured are a mean of 1.4 and a variance of
2.6."""


@dataclass(frozen=True)
class LabelPositions:
    """Splits a batch into microbatches and adds `masked_positions` `[M]` int64, flat in `B * T`, to each.

    M depends on the shape of the microbatch and the masking settings only. All labelled positions are in the list, also
    where there are none; other positions fill it up, none twice. If a microbatch has more labels than M, which is very
    unlikely, the list has 2 M, 4 M, ... entries.
    """

    masking: MaskingConfig
    pin: bool = False
    """Put the positions into pinned memory, as the loader does with the rest of the batch."""

    def __call__(self, batch: Batch, microbatch_size: int | float) -> Sequence[Batch]:
        """Split a batch on the CPU, before it is moved to a device: a function for `DataSpec(split_batch=...)`."""
        # Here, so that `locate` works without Composer.
        from composer.core.data_spec import default_split_batch

        # Composer splits a microbatch once more to drop repeated samples at the end of an evaluation; the positions of
        # the first split are wrong then.
        plain = {key: value for key, value in batch.items() if key != "masked_positions"}
        return [self.locate(part) for part in default_split_batch(plain, microbatch_size)]

    def locate(self, batch: Batch) -> Batch:
        """Add the positions to one microbatch; a microbatch whose labels are on a device already stays unchanged."""
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
        """M for microbatches of `rows` x `length`: the largest number of labels to expect, rounded up."""
        share = max(self.masking.probability, self.masking.final_probability or 0.0)
        text = max(length - 2, 0)
        mean, variance = max(share * text, 1.0), share * (1 - share) * text
        if self.masking.strategy == "span":
            mean, variance = mean + OVERSHOOT, variance + OVERSHOOT_VARIANCE
        most = rows * mean + DEVIATIONS * math.sqrt(rows * variance)
        return min(math.ceil(most / MULTIPLE) * MULTIPLE, rows * length)
