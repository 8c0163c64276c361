"""Saving training state: at once or not at all, the newest few, and a copy in S3 where there is to be one.

Composer's own saver writes under the final name, forgets what earlier processes saved, keeps everything it uploads, and
leaves the other ranks waiting when a disk is full; what it writes is read back by Composer all the same.
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

UNFINISHED = ".saving"
"""Folder, inside the checkpoints' own, of what is being written."""


class CheckpointWriter(Callback):
    """Saves the whole training state every `interval` and where training ends.

    A checkpoint is written under another name, brought to the disk and renamed, so that one that has its name is whole,
    whenever the process was killed. With `mirror` it is then sent to S3, without waiting for that.

    Args:
        folder: where to; the first rank writes, publishes, rotates and sends. Several nodes with sharded checkpoints
            need a common one.
        interval: Composer time string.
        keep: checkpoints kept, the newest ones, those of earlier processes included; -1 keeps all.
        mirror: sends copies to S3; used by the first rank.
        checks: called before each saving on every rank; one that raises prevents it.
        note: called on rank 0 with (step, path) after each saving.

    Raises:
        DataError: on every rank, if one could not write: a disk that is full, a folder without permission.
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
        """Make the folder, without what a killed process left half-written."""
        if dist.get_local_rank() == 0:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                if dist.get_global_rank() == 0:
                    remove(self.folder / UNFINISHED)
            except OSError as error:
                raise DataError(_sentence(self.folder, error, "")) from error

    def batch_checkpoint(self, state: State, logger: Logger) -> None:
        """Save where an interval ends in batches, tokens or samples."""
        self._save_if_due(state, Event.BATCH_CHECKPOINT)

    def epoch_checkpoint(self, state: State, logger: Logger) -> None:
        """Save where an interval ends in epochs."""
        self._save_if_due(state, Event.EPOCH_CHECKPOINT)

    def _save_if_due(self, state: State, event: Event) -> None:
        batch = int(state.timestamp.batch)
        if batch != self._last and self._due(state, event):
            self._last = batch
            self.save(state)

    def save(self, state: State) -> Path:
        """Save now; returns the checkpoint's path.

        Raises:
            DataError: if a rank could not.
        """
        for check in self.checks:
            check(state)
        path, problem = self._write(state)
        # Composer looks for its files when all ranks have written; only after that they may get another name.
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
        """Wait for what is on its way to S3.

        Raises:
            DataError: on every rank, if something could not be sent; it stays in the folder.
        """
        failed = {} if self.mirror is None else self.mirror.finish()
        for each in dist.all_gather_object({str(path): reason for path, reason in failed.items()}):
            for path, reason in each.items():
                raise DataError(f"checkpoint {path} could not be sent to S3 ({reason}); it stays on this disk")

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
                # Through Python's file, whose errors say what the disk said; torch's own writer does not.
                with (half / path.name).open("wb") as file:
                    torch.save(content, file)
            except (OSError, RuntimeError) as error:
                problem = _sentence(path, _cause(error), self._way_out())
        return path, problem

    def _way_out(self) -> str:
        steps = [step for each in self.folder.iterdir() if (step := step_of(each.name)) is not None]
        start = f"continues after step {max(steps)}" if steps else "begins anew, no checkpoint being there yet"
        return f"; make room and give the same command again, which {start}"

    def _rotate(self, step: int) -> None:
        steps = {each.name: found for each in self.folder.iterdir() if (found := step_of(each.name)) is not None}
        sending = {path.name for path in self.mirror.pending()} if self.mirror is not None else set()
        for name in surplus(steps, self.keep, step):
            if name not in sending:
                remove(self.folder / name)


def publish(half: Path, path: Path) -> None:
    """Give a file or folder that is written its final name, once its bytes are on the disk."""
    for file in sorted(half.iterdir()) if half.is_dir() else [half]:
        _sync(file)
    if path.is_dir():
        # A folder cannot replace one that is not empty.
        remove(path)
    os.replace(half, path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _cause(error: BaseException) -> BaseException:
    # torch wraps what the disk said, sharded checkpoints once more.
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
