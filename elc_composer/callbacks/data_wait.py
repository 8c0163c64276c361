"""How long training waits for its data."""

from __future__ import annotations

import time
from dataclasses import dataclass

from composer.core import Callback, State
from composer.loggers import Logger

from elc_composer.common.errors import ConfigError


@dataclass(eq=False)
class DataWaitMonitor(Callback):
    """Logs the time that rank 0 spends waiting for batches; the others wait for the slowest rank in any case.

    +--------------------------+---------------------------------------------------------------------------------------+
    | Key                      | Logged data, over the last `window` batches                                           |
    +==========================+=======================================================================================+
    | ``data_wait/seconds``    | Mean seconds between asking the loader for a batch and having it                      |
    | ``data_wait/share``      | Their share of the time since the batch before was asked for, evaluation left out     |
    +--------------------------+---------------------------------------------------------------------------------------+
    """

    window: int = 50
    """Batches that a figure is taken over; it is logged once that many are done."""

    def __post_init__(self) -> None:
        """Start with nothing measured."""
        if self.window < 1:
            raise ConfigError(f"data_wait_monitor.window is {self.window}; it must be at least 1")
        self._restart()

    def _restart(self) -> None:
        self._asked: float | None = None
        self._waited = self._total = self._paused = 0.0
        self._batches = 0

    def fit_start(self, state: State, logger: Logger) -> None:
        """What lies between two stages is no waiting."""
        self._restart()

    def before_dataloader(self, state: State, logger: Logger) -> None:
        """A batch is asked for."""
        now = time.perf_counter()
        if self._asked is not None:
            self._total += now - self._asked - self._paused
            self._batches += 1
            if self._batches == self.window:
                figures = {"seconds": self._waited / self._batches, "share": self._waited / max(self._total, 1e-9)}
                logger.log_metrics({f"data_wait/{name}": value for name, value in figures.items()})
                self._waited = self._total = 0.0
                self._batches = 0
        self._asked, self._paused = now, 0.0

    def after_dataloader(self, state: State, logger: Logger) -> None:
        """The batch is here."""
        if self._asked is not None:
            self._waited += time.perf_counter() - self._asked

    def eval_before_all(self, state: State, logger: Logger) -> None:
        """Evaluation begins."""
        self._paused -= time.perf_counter()

    def eval_after_all(self, state: State, logger: Logger) -> None:
        """Evaluation is over."""
        self._paused += time.perf_counter()
