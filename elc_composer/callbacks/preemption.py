"""Leave in good order when the machine is about to be taken away: SIGTERM ends training at a batch's end."""

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
"""What a pre-empted process should exit with: EX_TEMPFAIL of sysexits.h, "try again later"."""


@dataclass(eq=False)
class Preemption(Callback):
    """Stops training at the end of the batch during which any rank got SIGTERM; every rank stops after the same batch.

    Training stops before that batch's checkpoint is due, and Composer saves one wherever training ends, so that the
    run's state is on disk when `Trainer.fit` returns. Then `preempted` is True: close the trainer, call `leave`.

    The ranks agree through one reduction a batch. Further SIGTERMs change nothing (launchers send them to ranks that
    are still saving); SIGINT stays what it is, and ends the process at once without a checkpoint.

    In a script of your own:

        preemption = Preemption()
        trainer = Trainer(..., callbacks=[preemption], save_folder=...)
        trainer.fit()
        trainer.close()
        if preemption.preempted:
            preemption.leave()
    """

    def __post_init__(self) -> None:
        """Nothing has happened yet."""
        self.preempted = False
        self._noticed = False
        self._before: Any = None

    def install(self) -> None:
        """Take SIGTERM from now on; `init` does so, too. Outside the main thread Python takes no signals: nothing."""
        if self._before is None and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._notice)

    def _notice(self, number: int, frame: FrameType | None) -> None:
        if not self._noticed:
            # print is not safe in a handler
            os.write(2, b"SIGTERM: training stops after this batch, with a checkpoint\n")
        self._noticed = True

    def init(self, state: State, logger: Logger) -> None:
        """Take SIGTERM."""
        self.install()

    def batch_checkpoint(self, state: State, logger: Logger) -> None:
        """Agree whether to stop here; before any saver that comes later in the list, so that it sees the end."""
        self._agree(state)

    def epoch_checkpoint(self, state: State, logger: Logger) -> None:
        """Agree again where an evaluation lay between."""
        self._agree(state)

    def _agree(self, state: State) -> None:
        noticed = state.device.tensor_to_device(torch.tensor(int(self._noticed)))
        dist.all_reduce(noticed, reduce_operation="MAX")
        if noticed.item():
            self.preempted = True
            state.stop_training()

    def close(self, state: State, logger: Logger) -> None:
        """Give SIGTERM back, unless the process is about to leave."""
        if not self._noticed and not self.preempted:
            self.restore()

    def restore(self) -> None:
        """Let SIGTERM do what it did before."""
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
            self._before = None

    def leave(self) -> None:
        """Exit with `EXIT_CODE`, together with the other ranks, whatever signals a launcher sends meanwhile."""
        if self._before is not None:
            # Python drops its own handlers before the process is gone; one that ignores stays
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        dist.barrier()
        raise SystemExit(EXIT_CODE)
