"""One training run, from a YAML file to a folder of results: what `train.py` at the top of the project calls."""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from composer import DataSpec, Trainer
from composer.utils import dist, get_device

from elc_composer.callbacks import BadLoss, LossGuard, Preemption
from elc_composer.callbacks.loss_guard import OnBadLoss
from elc_composer.common.addresses import refuse_addresses
from elc_composer.common.errors import ConfigError, DataError
from elc_composer.common.process_group import join_process_group
from elc_composer.common.storage import Unreachable
from elc_composer.data.loader import WholeEpochLoader
from elc_composer.model.kernels import kernels_refusal
from elc_composer.training.build_trainer import build_callbacks, build_saver, build_train_data, build_trainer
from elc_composer.training.config import RunConfig, load_config
from elc_composer.training.dry_run import describe_run
from elc_composer.training.events import EventLog
from elc_composer.training.parallelism import check_parallelism, device_kind
from elc_composer.training.prepare import Run, prepare_run
from elc_composer.training.record import note_end, note_stage, note_start, read_skipped, save_run_files, write_skipped
from elc_composer.training.stages import enter_stage, fit_stage, stage_at

BAD_INPUT, RANK_LOST, BAD_LOSS, INTERRUPTED = 2, 1, 70, 130  # storage that does not answer ends like a lost rank
"""Exit codes, beside 0 and `preemption.EXIT_CODE` (75)."""

_LOST = re.compile(r"closed by peer|connection reset|socket timeout|Timed out|NCCL|gloo", re.IGNORECASE)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train as `train.py CONFIG [key=value ...] [--dry-run]` says; every end but success has one line and a code."""
    parser = argparse.ArgumentParser(prog="composer train.py", description="Train an ELC-BERT.")
    parser.add_argument("config", help="YAML run config, for example yamls/elc_strict.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="replace a value of the config")
    parser.add_argument(
        "--dry-run", action="store_true", help="print what would be trained, check data and tokenizer, stop"
    )
    options = parser.parse_intermixed_args(arguments)
    preemption = Preemption()
    try:
        config = load_config(options.config, options.overrides)
        refuse_addresses({"run_folder": config.run_folder})
        join_process_group(get_device(None), config.parallelism.dist_timeout)
        if options.dry_run or config.dry_run:
            dry_run(config)
        else:
            train(config, preemption)
    except Unreachable as error:
        _end(f"{error}; the same command tries again, from the newest checkpoint", RANK_LOST)
    except (ConfigError, DataError) as error:
        _end(str(error), BAD_INPUT)
    except BadLoss as error:
        _end(f"{error}; the checkpoints are from before it", BAD_LOSS)
    except (KeyboardInterrupt, SystemExit) as end:
        # Composer's own handler of Ctrl-C raises the latter.
        if isinstance(end, SystemExit) and end.code != INTERRUPTED:
            raise
        _end("interrupted; the same command continues from the newest checkpoint", INTERRUPTED)
    except RuntimeError as error:
        if dist.get_world_size() == 1 or not _LOST.search(str(error)):
            raise
        reason = str(error).strip().splitlines()[0]
        _end(f"another rank is gone ({reason}); the same command continues from the newest checkpoint", RANK_LOST)
    finally:
        if dist.get_world_size() == 1 and not preemption.preempted:
            preemption.restore()
    if preemption.preempted:
        preemption.leave()


def _end(sentence: str, code: int) -> None:
    if dist.get_world_size() > 1:
        # A launcher that sees one rank end sends this to the others; the code must stay theirs.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print(f"error: {sentence}", file=sys.stderr, flush=True)
    sys.exit(code)


def dry_run(config: RunConfig) -> None:
    """Print what a run would be, then check everything but this machine's devices, which only a note is spent on."""
    first = dist.get_global_rank() == 0
    if first:
        print(describe_run(config), flush=True)
    prepare_run(config)
    try:
        check_devices(config)
        note = "ready to train"
    except ConfigError as error:
        note = f"but not on this machine: {error}"
    if first:
        print(f"data and tokenizer fit the model: {note}")


def check_devices(config: RunConfig) -> None:
    """Refuse what these devices cannot run.

    Raises:
        ConfigError: naming the key.
    """
    auto = any(stage.device_train_microbatch_size == "auto" for stage in config.stages)
    check_parallelism(config.parallelism, config.precision, device_kind(), dist.get_world_size(), auto)
    refusal = kernels_refusal(config.model.kernels, "cuda" if device_kind() == "gpu" else "cpu")  # type: ignore[attr-defined]
    if refusal is not None:
        raise ConfigError(f"model.{refusal}")


def check_run_folder(folder: Path) -> None:
    """Refuse a folder that cannot be made or written, without making it.

    Raises:
        ConfigError: naming what is in the way.
    """
    refuse_addresses({"run_folder": str(folder)})
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise ConfigError(f"run_folder {folder} cannot be written: {there} is no folder; name another")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(f"run_folder {folder} cannot be written: no permission in {there}; name another")


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
