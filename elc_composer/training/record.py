"""Writes the files that describe a run (config, model config, tokenizer, versions), and records its events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from composer import Trainer
from composer.utils import dist

from elc_composer.callbacks import Preemption
from elc_composer.checkpoints.resume import set_aside
from elc_composer.common.errors import DataError, one_line
from elc_composer.common.files import write_json, write_text
from elc_composer.common.json_files import read_json
from elc_composer.common.process_group import on_rank_zero
from elc_composer.common.run_folder import CONFIG, MODEL_CONFIG, SKIPPED_STEPS, TOKENIZER
from elc_composer.common.strict_yaml import to_yaml
from elc_composer.training.events import EventLog
from elc_composer.training.metadata import write_metadata
from elc_composer.training.run import Run
from elc_composer.training.stages import Stage


def save_run_files(run: Run) -> None:
    """Write config, model config, tokenizer and metadata into the run folder, on rank 0.

    Raises:
        DataError: the folder cannot be written; on every rank.
    """
    on_rank_zero(lambda: _save_run_files(run))


def _save_run_files(run: Run) -> None:
    try:
        write_text(run.folder / CONFIG, to_yaml(run.config))
        write_text(run.folder / MODEL_CONFIG, run.model.to_json_string())
        run.tokenizer.save_pretrained(run.folder / TOKENIZER)
        write_metadata(run.folder, run.config.data)
    except Exception as error:
        # The tokenizers package raises a plain Exception for a full disk.
        if not isinstance(error, OSError) and "os error" not in str(error):
            raise
        raise _not_written(run.folder, error) from error


def note_start(run: Run, events: EventLog) -> None:
    """Record where the run starts; rename damaged checkpoints that the choice of the resume point skipped."""
    if dist.get_global_rank() != 0:
        return
    ranks = f"on {dist.get_world_size()} rank{'s' * (dist.get_world_size() > 1)}"
    if run.resume is None:
        events.note("started", 0, ranks)
        return
    for sentence in run.resume.damaged:
        events.note("fell_back", run.first_step, f"a newer checkpoint is damaged: {sentence}")
    if run.resume.damaged:
        set_aside(run.resume)
    events.note("resumed", run.first_step, f"from {Path(run.resume.path).name} {ranks}")


def note_stage(stage: Stage, events: EventLog) -> None:
    """Record the start of a stage."""
    events.note("stage", stage.first_step, f"stage {stage.index + 1} begins: {stage.seq_length} tokens a sequence")


def note_end(trainer: Trainer, run: Run, preemption: Preemption, events: EventLog) -> None:
    """Record how the run ended; SIGTERM during the last step does not count as preemption."""
    step = int(trainer.state.timestamp.batch)
    if step >= run.config.max_steps:
        preemption.preempted = False
    what = "preempted" if preemption.preempted else "finished"
    events.note(what, step, f"after {step:,} of {run.config.max_steps:,} steps")


def read_skipped(folder: Path) -> set[int]:
    """Steps that earlier processes of the run left out after a bad loss; this process must leave them out as well.

    Raises:
        DataError: the file exists but is damaged, which would change the run's steps; on every rank.
    """
    return on_rank_zero(lambda: _read_skipped(folder / SKIPPED_STEPS))


def _read_skipped(path: Path) -> set[int]:
    if not path.exists():
        return set()
    try:
        return set(_steps(read_json(path), path))
    except DataError as error:
        raise DataError(f"{error}; it must be a JSON list of the skipped steps; copy them from events.jsonl") from None


def _steps(value: Any, path: Path) -> list[int]:
    # type() rather than isinstance(): bool is a subclass of int.
    if not isinstance(value, list) or not all(type(step) is int and step >= 0 for step in value):
        raise DataError(f"{path} is damaged")
    return value


def write_skipped(folder: Path, skipped: set[int]) -> None:
    """Write the steps to leave out for later processes of the run, on rank 0.

    Raises:
        DataError: the folder cannot be written; on every rank.
    """

    def write() -> None:
        try:
            write_json(folder / SKIPPED_STEPS, sorted(skipped))
        except OSError as error:
            raise _not_written(folder, error) from error

    on_rank_zero(write)


def _not_written(folder: Path, error: Exception) -> DataError:
    reason = getattr(error, "strerror", None) or one_line(error)
    return DataError(f"{folder} cannot be written: {reason}; correct that and rerun the same command")
