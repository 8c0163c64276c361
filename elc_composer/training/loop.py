"""The training loop: every remaining stage of a run, with roll-backs after a bad loss."""

from __future__ import annotations

import contextlib
import gc
from pathlib import Path
from typing import cast

from composer import DataSpec, Trainer

from elc_composer.callbacks import BadLoss, LossGuard, Preemption
from elc_composer.callbacks.loss_guard import OnBadLoss
from elc_composer.common.errors import DataError
from elc_composer.data.loader import WholeEpochLoader
from elc_composer.training.build_trainer import build_callbacks, build_saver, build_train_data, build_trainer
from elc_composer.training.checks import check_devices, check_run_folder
from elc_composer.training.config import RunConfig
from elc_composer.training.events import EventLog
from elc_composer.training.prepare import prepare_run
from elc_composer.training.record import note_end, note_stage, note_start, read_skipped, save_run_files, write_skipped
from elc_composer.training.run import Run
from elc_composer.training.stages import enter_stage, fit_stage, stage_at


def train(config: RunConfig, preemption: Preemption | None = None) -> Trainer:
    """Run every stage that is still to do, from the newest checkpoint if there is one.

    `preemption.preempted` tells afterwards whether SIGTERM ended it early.

    Raises:
        ConfigError: for a config that cannot work, before anything is built.
        DataError: for data that do not fit, before anything is built; for a disk that has no room.
        BadLoss: where training cannot go on from a loss.
    """
    check_devices(config)
    check_run_folder(Path(config.run_folder))
    preemption = preemption or Preemption()
    preemption.install()
    events, guard = EventLog(Path(config.run_folder)), config.callbacks.loss_guard
    skipped, tries = read_skipped(Path(config.run_folder)), 0
    while True:
        try:
            return _train_once(prepare_run(config), preemption, events, skipped)
        except BadLoss as bad:
            events.note("bad_loss", bad.step + 1, str(bad))
            tries += 1
            if guard is None or guard.on_bad_loss is OnBadLoss.stop or tries > guard.max_roll_backs:
                events.note("stopped", bad.step + 1, f"after {tries - 1} attempts without the bad batches")
                raise
            added = LossGuard.leave_out(skipped, bad.step)
            write_skipped(Path(config.run_folder), skipped)
            events.note("rolled_back", bad.step + 1, f"going on without the gradient of step {added}")
        # What the failed attempt held must be free before the next one is built.
        gc.collect()


def _train_once(run: Run, preemption: Preemption, events: EventLog, skipped: set[int]) -> Trainer:
    # A checkpoint at a border holds the state of the stage that ended there, so that stage's loader takes it.
    first = stage_at(run.plan, max(run.first_step - 1, 0))
    data = build_train_data(run, first)
    saver = build_saver(run, events)
    trainer = build_trainer(run, data, first, build_callbacks(run, preemption, saver, skipped))
    save_run_files(run)
    note_start(run, events)
    try:
        if run.config.evaluators.before_training and run.first_step == 0:
            trainer.eval()
        fit_stage(trainer, first)
        for stage in run.plan[first.index + 1 :]:
            if preemption.preempted:
                break
            close_loader(data)
            data = build_train_data(run, stage)
            enter_stage(trainer)
            note_stage(stage, events)
            fit_stage(trainer, stage, data)
    except BadLoss:
        close_loader(data)
        if saver is not None:
            # What cannot be sent now stays on the disk; the loss is what the user must hear of.
            with contextlib.suppress(DataError):
                saver.finish()
        trainer.close()
        raise
    close_loader(data)
    if saver is not None:
        saver.finish()
    note_end(trainer, run, preemption, events)
    trainer.close()
    return trainer


def close_loader(data: DataSpec) -> None:
    """End a loader's workers at once; left to the garbage collector, each takes seconds."""
    cast(WholeEpochLoader, data.dataloader).close()
