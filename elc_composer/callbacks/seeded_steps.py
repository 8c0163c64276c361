"""Seeds torch at every step, so that a resumed run draws the same dropout as an uninterrupted one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from composer.core import Callback, State
from composer.loggers import Logger
from composer.utils import dist


@dataclass(eq=False)
class SeededSteps(Callback):
    """Seeds torch at every step from the run's seed, the step and the rank only.

    Composer (0.32.1) restores its random state at the start of an epoch or after it skipped batches itself. It does not
    when a loader resumes by itself within an epoch, as Streaming's does; dropout would then differ.

    Args:
        seed: the run's seed.
    """

    seed: int

    def batch_start(self, state: State, logger: Logger) -> None:
        """Seed before the batch's first microbatch, on the CPU and on all GPUs."""
        key = [self.seed & 0xFFFFFFFFFFFFFFFF, int(state.timestamp.batch), dist.get_global_rank()]
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1))
