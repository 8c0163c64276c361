"""Monitors the time that training waits for data."""

from __future__ import annotations

import time
from dataclasses import dataclass

from composer.core import Callback, State
from composer.loggers import Logger

from elc_composer.common.errors import ConfigError


@dataclass(eq=False)
class DataWaitMonitor(Callback):
    """Logs the time that rank 0 waits for batches. (The ranks wait for each other in any case.)

    +--------------------------+---------------------------------------------------------------------------------------+
    | Key                      | Logged data, over the last `window` batches                                           |
    +==========================+=======================================================================================+
    | ``data_wait/seconds``    | Mean seconds between requesting a batch from the loader and receiving it              |
    | ``data_wait/share``      | The wait as a share of the time between two requests, without evaluation              |
    +--------------------------+---------------------------------------------------------------------------------------+
    """

    window: int = 50
    """Number of batches to average over; logged once per window."""

    def __post_init__(self) -> None:
        """Check the setting."""
        if self.window < 1:
            raise ConfigError(f"data_wait_monitor.window is {self.window}; it must be at least 1")
        self._restart()

    def _restart(self) -> None:
        self._asked: float | None = None
        self._waited = self._total = self._paused = 0.0
        self._batches = 0

    def fit_start(self, state: State, logger: Logger) -> None:
        """Start a new window: the time between two stages does not count."""
        self._restart()

    def before_dataloader(self, state: State, logger: Logger) -> None:
        """Start the timer; log when the window is complete."""
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
        """Stop the timer."""
        if self._asked is not None:
            self._waited += time.perf_counter() - self._asked

    def eval_before_all(self, state: State, logger: Logger) -> None:
        """Pause the timer."""
        self._paused -= time.perf_counter()

    def eval_after_all(self, state: State, logger: Logger) -> None:
        """Resume the timer."""
        self._paused += time.perf_counter()
