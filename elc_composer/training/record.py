"""What a run says of itself in its folder: what it is (config, model, tokenizer, versions) and what happens to it."""

from __future__ import annotations

import json
import os
from pathlib import Path

from composer import Trainer
from composer.utils import dist

from elc_composer.callbacks import Preemption
from elc_composer.checkpoints.resume import set_aside
from elc_composer.common.errors import DataError
from elc_composer.common.strict_yaml import to_yaml
from elc_composer.training.events import EventLog
from elc_composer.training.metadata import write_metadata
from elc_composer.training.run import Run
from elc_composer.training.stages import Stage

SKIPPED = "skipped_steps.json"


def save_run_files(run: Run) -> None:
    """Write what explains the run into its folder: config, the model's own config, tokenizer, versions and data.

    Raises:
        DataError: where the folder cannot be written to.
    """
    if dist.get_global_rank() == 0:
        try:
            run.folder.mkdir(parents=True, exist_ok=True)
            write_whole(run.folder / "config.yaml", to_yaml(run.config))
            write_whole(run.folder / "model_config.json", run.model.to_json_string())
            run.tokenizer.save_pretrained(run.folder / "tokenizer")
            write_metadata(run.folder, run.config.data)
        except Exception as error:
            # The tokenizers package tells of a full disk by a plain Exception.
            if not isinstance(error, OSError) and "os error" not in str(error):
                raise
            raise _not_written(run.folder, error) from error


def note_start(run: Run, events: EventLog) -> None:
    """Note where the run begins; damaged checkpoints that were passed over get another name."""
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
    """Note that a stage begins."""
    events.note("stage", stage.first_step, f"stage {stage.index + 1} begins: {stage.seq_length} tokens a sequence")


def note_end(trainer: Trainer, run: Run, preemption: Preemption, events: EventLog) -> None:
    """Note how the run ended; a notice of pre-emption that came during the last step changes nothing."""
    step = int(trainer.state.timestamp.batch)
    if step >= run.config.max_steps:
        preemption.preempted = False
    what = "preempted" if preemption.preempted else "finished"
    events.note(what, step, f"after {step:,} of {run.config.max_steps:,} steps")


def read_skipped(folder: Path) -> set[int]:
    """Steps that an earlier process of the run left out, which this one must leave out as well."""
    found: list[list[int]] = [[]]
    if dist.get_global_rank() == 0 and (folder / SKIPPED).is_file():
        try:
            found = [json.loads((folder / SKIPPED).read_text())]
        except ValueError as error:
            raise DataError(
                f"{folder / SKIPPED} is damaged ({error}); write the steps that were left out, which events.jsonl "
                "names, as a list into it"
            ) from error
    dist.broadcast_object_list(found)
    return set(found[0])


def write_skipped(folder: Path, skipped: set[int]) -> None:
    """Keep the steps that are left out for the run's next process."""
    if dist.get_global_rank() == 0:
        try:
            write_whole(folder / SKIPPED, json.dumps(sorted(skipped)))
        except OSError as error:
            raise _not_written(folder, error) from error


def write_whole(path: Path, text: str) -> None:
    """Write a file at once or not at all, whenever the process is killed or the machine fails."""
    half = path.with_name(f".{path.name}.tmp")
    with half.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    half.replace(path)


def _not_written(folder: Path, error: Exception) -> DataError:
    reason = getattr(error, "strerror", None) or str(error)
    return DataError(f"{folder} cannot be written to: {reason}; mend that and give the same command again")
