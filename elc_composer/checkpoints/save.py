"""Saves training state atomically, deletes old checkpoints, and copies new ones to S3.

Composer's own saver (0.32.1) is not used: it writes under the final name, does not delete checkpoints of earlier
processes, deletes none that it uploads, and leaves the other ranks waiting if a disk is full. The files have Composer's
format and are loaded by Composer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from composer.core import Callback, Event, State
from composer.loggers import Logger
from composer.utils import create_interval_scheduler, dist, reproducibility, save_checkpoint
from torch.distributed.checkpoint import CheckpointException

from elc_composer.checkpoints.integrity import sum_index
from elc_composer.checkpoints.names import FILENAME, SHARDED_FOLDER, step_of
from elc_composer.checkpoints.s3 import Mirror, remove, surplus
from elc_composer.common.errors import DataError, one_line
from elc_composer.common.files import fsync_folder

UNFINISHED = ".saving"
"""Folder within the checkpoints' folder, for files that are being written."""


class CheckpointWriter(Callback):
    """Saves the training state every `interval` and when training ends.

    A checkpoint is written to `.saving`, flushed to the disk (fsync) and renamed. So a file with a checkpoint's name is
    whole, even if the process is killed while it saves. With `mirror`, a thread then sends it to S3.

    Args:
        folder: folder of the checkpoints. Rank 0 renames, deletes and sends. Several nodes with sharded checkpoints
            need a shared folder.
        interval: Composer time string.
        keep: number of newest checkpoints to keep, including those of earlier processes; -1: all.
        mirror: sends copies to S3; used by rank 0.
        checks: called on every rank before each save; an exception prevents the save.
        note: called on rank 0 with (step, path) after each save.

    Raises:
        DataError: on every rank, if a rank could not write (full disk, no permission).
    """

    def __init__(
        self,
        folder: Path,
        interval: str,
        keep: int = -1,
        mirror: Mirror | None = None,
        checks: Sequence[Callable[[State], None]] = (),
        note: Callable[[int, Path], None] | None = None,
    ) -> None:
        self.folder = folder
        self.keep = keep
        self.mirror = mirror
        self.checks = checks
        self.note = note
        self._due = create_interval_scheduler(interval, include_end_of_training=True)
        self._last = -1

    def init(self, state: State, logger: Logger) -> None:
        """Create the folder; delete what a killed process left in `.saving`."""
        if dist.get_local_rank() == 0:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                if dist.get_global_rank() == 0:
                    remove(self.folder / UNFINISHED)
            except OSError as error:
                raise DataError(_sentence(self.folder, error, "")) from error

    def batch_checkpoint(self, state: State, logger: Logger) -> None:
        """Save if due; intervals in batches, tokens and samples are due here."""
        self._save_if_due(state, Event.BATCH_CHECKPOINT)

    def epoch_checkpoint(self, state: State, logger: Logger) -> None:
        """Save if due; intervals in epochs are due here."""
        self._save_if_due(state, Event.EPOCH_CHECKPOINT)

    def _save_if_due(self, state: State, event: Event) -> None:
        batch = int(state.timestamp.batch)
        if batch != self._last and self._due(state, event):
            self._last = batch
            self.save(state)

    def save(self, state: State) -> Path:
        """Save now; returns the checkpoint's path.

        Raises:
            DataError: a rank could not write.
        """
        for check in self.checks:
            check(state)
        path, problem = self._write(state)
        # Composer (0.32.1) checks that its files exist after all ranks have written; rename them only after that.
        self._agree(problem)
        self._agree(self._publish(path) if dist.get_global_rank() == 0 else None)
        if dist.get_global_rank() == 0:
            remove(self.folder / UNFINISHED)
            if self.mirror is not None:
                self.mirror.submit(path)
            self._rotate(int(state.timestamp.batch))
            if self.note is not None:
                self.note(int(state.timestamp.batch), path)
        return path

    def finish(self) -> None:
        """Wait until all checkpoints are in S3.

        Raises:
            DataError: on every rank, if one could not be sent; it stays in the folder.
        """
        failed = {} if self.mirror is None else self.mirror.finish()
        for each in dist.all_gather_object({str(path): reason for path, reason in failed.items()}):
            for path, reason in each.items():
                raise DataError(f"checkpoint {path} could not be sent to S3 ({reason}); it stays in the local folder")

    def _agree(self, problem: str | None) -> None:
        problems = [found for found in dist.all_gather_object(problem) if found is not None]
        if problems:
            if dist.get_global_rank() == 0:
                remove(self.folder / UNFINISHED)
            raise DataError(problems[0])

    def _publish(self, path: Path) -> str | None:
        half = self.folder / UNFINISHED / path.name
        try:
            if half.is_dir():
                sum_index(half)
            publish(half, path)
        except OSError as error:
            return _sentence(path, error, self._way_out())
        return None

    def _write(self, state: State) -> tuple[Path, str | None]:
        step, half = int(state.timestamp.batch), self.folder / UNFINISHED
        problem = None
        if state.fsdp_sharded_state_dict_enabled:
            path = self.folder / SHARDED_FOLDER.format(epoch=int(state.timestamp.epoch), batch=step)
            try:
                save_checkpoint(state, str(half / FILENAME))
            except (OSError, RuntimeError, CheckpointException) as error:
                problem = _sentence(path, _cause(error), self._way_out())
            return path, problem
        path = self.folder / FILENAME.format(batch=step, rank=0)
        content = {"state": state.state_dict(), "rng": reproducibility.get_rng_state()}
        if dist.get_global_rank() == 0:
            try:
                half.mkdir(parents=True, exist_ok=True)
                # Write through a Python file object: its OSError carries errno (disk full); torch's writer hides it.
                with (half / path.name).open("wb") as file:
                    torch.save(content, file)
            except (OSError, RuntimeError) as error:
                problem = _sentence(path, _cause(error), self._way_out())
        return path, problem

    def _way_out(self) -> str:
        steps = [step for each in self.folder.iterdir() if (step := step_of(each.name)) is not None]
        start = f"resumes after step {max(steps)}" if steps else "starts at step 0, since there is no checkpoint yet"
        return f"; free disk space and rerun the same command, which {start}"

    def _rotate(self, step: int) -> None:
        steps = {each.name: found for each in self.folder.iterdir() if (found := step_of(each.name)) is not None}
        sending = {path.name for path in self.mirror.pending()} if self.mirror is not None else set()
        for name in surplus(steps, self.keep, step):
            if name not in sending:
                remove(self.folder / name)


def publish(half: Path, path: Path) -> None:
    """Flush a written file or folder to the disk and rename it to its final name."""
    for file in sorted(half.iterdir()) if half.is_dir() else [half]:
        with file.open("rb") as written:
            os.fsync(written.fileno())
    if path.is_dir():
        # A folder cannot replace a folder that is not empty.
        remove(path)
    os.replace(half, path)
    fsync_folder(path.parent)


def _cause(error: BaseException) -> BaseException:
    # torch wraps the OSError of the disk in a RuntimeError, for sharded checkpoints also in a CheckpointException.
    if isinstance(error, CheckpointException) and error.failures:
        return _cause(next(iter(error.failures.values()))[0])
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return error


def _sentence(path: Path, error: BaseException, way_out: str) -> str:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
    return f"checkpoint {path} cannot be written: {reason}{way_out}"
