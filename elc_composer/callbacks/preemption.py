"""Handles preemption: on SIGTERM, training stops after the current batch, with a checkpoint."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from composer.core import Callback, State
from composer.loggers import Logger
from composer.utils import dist

EXIT_CODE = 75
"""Exit code of a preempted process: EX_TEMPFAIL of sysexits.h, "try again later"."""


@dataclass(eq=False)
class Preemption(Callback):
    """Stops training at the end of the batch during which any rank got SIGTERM; all ranks stop after the same batch.

    Training stops before that batch's checkpoint is due, and Composer saves a checkpoint when training ends. So the
    state is on disk when `Trainer.fit` returns. Then `preempted` is True: close the trainer and call `leave`.

    The ranks agree by one reduction per batch. Later SIGTERMs are ignored, because launchers send them to ranks that
    are still saving. SIGINT is not handled: it ends the process at once, without a checkpoint.

    In your own script:

        preemption = Preemption()
        trainer = Trainer(..., callbacks=[preemption], save_folder=...)
        trainer.fit()
        trainer.close()
        if preemption.preempted:
            preemption.leave()
    """

    def __post_init__(self) -> None:
        """No signal has arrived."""
        self.preempted = False
        self._noticed = False
        self._before: Any = None

    def install(self) -> None:
        """Handle SIGTERM from now on (`init` calls this). Does nothing outside the main thread: Python forbids it."""
        if self._before is None and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._notice)

    def _notice(self, number: int, frame: FrameType | None) -> None:
        if not self._noticed:
            # print is not reentrant, so it must not be used in a signal handler.
            os.write(2, b"SIGTERM: training stops after this batch, with a checkpoint\n")
        self._noticed = True

    def init(self, state: State, logger: Logger) -> None:
        """Handle SIGTERM from now on."""
        self.install()

    def batch_checkpoint(self, state: State, logger: Logger) -> None:
        """Agree whether to stop. Savers that come later in the list of callbacks then save the last batch."""
        self._agree(state)

    def epoch_checkpoint(self, state: State, logger: Logger) -> None:
        """Agree again: an evaluation may have run since the batch ended."""
        self._agree(state)

    def _agree(self, state: State) -> None:
        noticed = state.device.tensor_to_device(torch.tensor(int(self._noticed)))
        dist.all_reduce(noticed, reduce_operation="MAX")
        if noticed.item():
            self.preempted = True
            state.stop_training()

    def close(self, state: State, logger: Logger) -> None:
        """Restore the previous handler, unless the process is about to exit."""
        if not self._noticed and not self.preempted:
            self.restore()

    def restore(self) -> None:
        """Restore the previous SIGTERM handler."""
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
            self._before = None

    def leave(self) -> None:
        """Exit with `EXIT_CODE` after all ranks have arrived here; SIGTERM is ignored from now on."""
        if self._before is not None:
            # Python removes its handlers during shutdown; SIG_IGN stays in force, so that a late SIGTERM cannot
            # change the exit code.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        dist.barrier()
        raise SystemExit(EXIT_CODE)
