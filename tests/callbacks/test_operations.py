"""Preemption, DataWaitMonitor and GradientNorm."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from composer import Callback, State
from composer.algorithms import GradientClipping
from composer.loggers import Logger

from elc_composer.callbacks import DataWaitMonitor, GradientNorm, Preemption
from elc_composer.callbacks.preemption import EXIT_CODE
from elc_composer.checkpoints.save import CheckpointWriter
from elc_composer.common.errors import ConfigError
from tests.callbacks.toys import ToyElc, batches, logged, trainer


class Notice(Callback):
    """Sends this process a signal, twice, in the middle of a step (from 0)."""

    def __init__(self, step: int) -> None:
        self.step = step

    def after_loss(self, state: State, logger: Logger) -> None:
        if int(state.timestamp.batch) == self.step:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)


def test_sigterm_ends_training_after_the_batch_with_a_checkpoint(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    preemption, saver = Preemption(), CheckpointWriter(tmp_path, "100ba")
    run = trainer(ToyElc(), [Notice(2), preemption, saver])
    run.fit()
    run.close()
    assert preemption.preempted
    assert int(run.state.timestamp.batch) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["ba3-rank0.pt"]
    assert capfd.readouterr().err.count("SIGTERM: training stops after this batch") == 1
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(SystemExit) as left:
            preemption.leave()
        assert left.value.code == EXIT_CODE == 75
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_composers_own_saver_saves_too(tmp_path: Path) -> None:
    preemption = Preemption()
    run = trainer(ToyElc(), [Notice(2), preemption], save_folder=str(tmp_path), save_interval="100ba")
    run.fit()
    run.close()
    preemption.restore()
    assert "ep0-ba3-rank0.pt" in {path.name for path in tmp_path.iterdir()}


def test_run_without_a_signal_restores_the_handler() -> None:
    before = signal.getsignal(signal.SIGTERM)
    preemption = Preemption()
    run = trainer(ToyElc(), [preemption], steps=1)
    assert signal.getsignal(signal.SIGTERM) == preemption._notice
    run.fit()
    run.close()
    assert not preemption.preempted
    assert signal.getsignal(signal.SIGTERM) == before


class Slow:
    """Batches that take their time."""

    batch_size = 8

    def __init__(self, steps: int, seconds: float) -> None:
        self.steps = steps
        self.seconds = seconds

    def __iter__(self) -> Iterator[Any]:
        for batch in batches(self.steps):
            time.sleep(self.seconds)
            yield batch

    def __len__(self) -> int:
        return self.steps


def test_the_wait_for_data_is_a_share_of_the_step() -> None:
    found = []
    for seconds in (0.0, 0.2):
        run = trainer(ToyElc(), [DataWaitMonitor(window=3)], steps=5, train_dataloader=Slow(5, seconds))
        run.fit()
        (waited,), (share,) = (logged(run, f"data_wait/{name}").values() for name in ("seconds", "share"))
        run.close()
        assert len(waited) == 1, "one figure a window"
        found.append((next(iter(waited.values())), next(iter(share.values()))))
    (quick, low), (slow, high) = found
    assert slow >= 0.2 > quick
    assert 0 <= low < high <= 1
    with pytest.raises(ConfigError, match="window is 0"):
        DataWaitMonitor(window=0)


def test_the_gradients_norm_is_that_before_clipping() -> None:
    class Seen(Callback):
        norm = 0.0

        def after_train_batch(self, state: State, logger: Logger) -> None:
            gradients = [p.grad for p in state.model.parameters() if p.grad is not None]
            self.norm = float(torch.nn.utils.get_total_norm(gradients))

    clipped, free = Seen(), Seen()
    algorithms = [GradientClipping(clipping_type="norm", clipping_threshold=0.01), GradientNorm()]
    run = trainer(ToyElc(), [clipped], steps=1, algorithms=algorithms)
    run.fit()
    whole = trainer(ToyElc(), [free], steps=1)
    whole.fit()
    (norms,) = logged(run, "gradient/norm").values()
    assert norms[0] == pytest.approx(free.norm, rel=1e-5)
    assert clipped.norm == pytest.approx(0.01, rel=1e-3)
    for each in (run, whole):
        each.close()
