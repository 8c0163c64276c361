"""The training loop: every remaining stage of a run, with roll-backs after a bad loss."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
from pathlib import Path
from typing import cast

from composer import DataSpec, Trainer

from elc_composer.callbacks import BadLoss, LossGuard, Preemption
from elc_composer.callbacks.loss_guard import OnBadLoss
from elc_composer.common.errors import DataError
from elc_composer.data.loader import WholeEpochLoader
from elc_composer.training.build_trainer import (
    build_callbacks,
    build_saver,
    build_train_data,
    build_trainer,
    count_words,
)
from elc_composer.training.checks import check_devices, check_run_folder
from elc_composer.training.config import RunConfig
from elc_composer.training.events import EventLog
from elc_composer.training.prepare import prepare_run
from elc_composer.training.record import note_end, note_stage, note_start, read_skipped, save_run_files, write_skipped
from elc_composer.training.resume_choice import choose_resume_point
from elc_composer.training.run import Run
from elc_composer.training.stages import enter_stage, fit_stage, stage_at


def train(config: RunConfig, preemption: Preemption | None = None) -> Trainer:
    """Train every remaining stage, from the newest checkpoint if there is one.

    Args:
        config: the run.
        preemption: handles SIGTERM; its `preempted` is True afterwards if SIGTERM ended the run early.

    Raises:
        ConfigError: a config that cannot work, before anything is built.
        DataError: data that do not fit, before anything is built; a full disk.
        BadLoss: a bad loss with `on_bad_loss: stop`, or after the last allowed roll-back.
    """
    check_devices(config)
    check_run_folder(Path(config.run_folder))
    preemption = preemption or Preemption()
    preemption.install()
    events, guard = EventLog(Path(config.run_folder)), config.callbacks.loss_guard
    skipped, tries = read_skipped(Path(config.run_folder)), 0
    run = prepare_run(config)
    while True:
        try:
            return _train_once(run, preemption, events, skipped)
        except BadLoss as bad:
            events.note("bad_loss", bad.step + 1, str(bad))
            tries += 1
            if guard is None or guard.on_bad_loss is OnBadLoss.stop or tries > guard.max_roll_backs:
                events.note("stopped", bad.step + 1, f"after {tries - 1} attempts without the bad batches")
                raise
            added = LossGuard.leave_out(skipped, bad.step)
            write_skipped(Path(config.run_folder), skipped)
            events.note("rolled_back", bad.step + 1, f"continues without the gradient of step {added}")
        # Free the failed attempt's memory before the next one is built; Trainer and callbacks refer to each other.
        gc.collect()
        resume, _ = choose_resume_point(run.config)
        run = dataclasses.replace(run, resume=resume)


def _train_once(run: Run, preemption: Preemption, events: EventLog, skipped: set[int]) -> Trainer:
    # A checkpoint between two stages holds the loader state of the stage that ended, so that stage's loader loads it.
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
            count_words(trainer.state.callbacks, run, data)
            enter_stage(trainer)
            note_stage(stage, events)
            fit_stage(trainer, stage, data)
    except BadLoss:
        close_loader(data)
        if saver is not None:
            # A failed upload leaves the checkpoint on disk; the bad loss is the error to report.
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
    """Stop a loader's worker processes now; the garbage collector takes seconds for each."""
    cast(WholeEpochLoader, data.dataloader).close()
