"""Dropout that a resumed run draws as the undisturbed one would."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from composer.core import Callback, State
from composer.loggers import Logger
from composer.utils import dist


@dataclass(eq=False)
class SeededSteps(Callback):
    """Seeds torch at every step from the run's seed, the step and the rank, and from nothing that came before.

    Composer restores its random state only where an epoch begins or where it skips batches itself; with a loader that
    resumes by itself in the middle of an epoch it does not (0.32.1), and dropout would differ from there on.

    Args:
        seed: of the run.
    """

    seed: int

    def batch_start(self, state: State, logger: Logger) -> None:
        """Seed before the batch's first microbatch, on the CPU and on all GPUs."""
        key = [self.seed & 0xFFFFFFFFFFFFFFFF, int(state.timestamp.batch), dist.get_global_rank()]
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1))
