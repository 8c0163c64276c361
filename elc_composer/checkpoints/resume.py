"""Chooses the checkpoint from which a run resumes: the newest undamaged one.

Composer's autoresume (0.32.1) is not used: it trusts a `latest` link, caches remote files in a literal `./s3:` folder
(an older run's file is then reused), and cannot fall back from a truncated file. The choice by name and integrity is
passed to Composer as `load_path`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from elc_composer.checkpoints.integrity import damage
from elc_composer.checkpoints.names import step_of
from elc_composer.checkpoints.s3 import Bucket, parse_save_folder
from elc_composer.common.addresses import is_address, local_path, refuse_addresses
from elc_composer.common.errors import ConfigError, DataError
from elc_composer.common.intervals import parse_interval
from elc_composer.common.run_folder import CHECKPOINTS
from elc_composer.common.storage import Unreachable

log = logging.getLogger(__name__)

FETCHES = 2
"""Number of download attempts for a checkpoint that arrives damaged; the transfer may be at fault."""


@dataclass
class CheckpointsConfig:
    """Saving and resuming."""

    save_folder: str | None = "${run_folder}/checkpoints"
    """Folder; or `s3://bucket/prefix`, to which `<run_folder>/checkpoints` is copied; null: save nothing."""
    save_interval: str = "500ba"
    """Interval of checkpoints: a time string; they are also saved at the end of every stage and of the run."""
    keep: int = 3
    """Number of newest checkpoints to keep, in the folder and in S3; -1: all."""
    autoresume: bool = True
    """Resume from the newest undamaged checkpoint in `save_folder`, if there is one."""
    load_path: str | None = None
    """Checkpoint to start from; one that holds more than a run's state is refused, and none of its code runs."""

    def __post_init__(self) -> None:
        if self.keep == 0 or self.keep < -1:
            raise ConfigError(f"checkpoints.keep is {self.keep}; it must be at least 1, or -1 for all")
        parse_interval(self.save_interval, "checkpoints.save_interval")
        refuse_addresses({"checkpoints.load_path": self.load_path})
        if self.remote is not None:
            parse_save_folder(self.remote)

    @property
    def remote(self) -> str | None:
        """The address to which checkpoints are copied; None if `save_folder` is a local folder."""
        return self.save_folder if self.save_folder is not None and is_address(self.save_folder) else None

    def local(self, run_folder: str) -> Path | None:
        """Folder of the checkpoints on this machine; None if nothing is saved."""
        if self.save_folder is None:
            return None
        return Path(run_folder) / CHECKPOINTS if self.remote else Path(local_path(self.save_folder))


@dataclass(frozen=True)
class ResumePoint:
    """A checkpoint on this machine, and the optimizer step after which it was saved."""

    path: str
    step: int
    damaged: tuple[str, ...] = ()
    """Newer checkpoints that were skipped, each with its damage."""


def find_resume_point(config: CheckpointsConfig, run_folder: str = ".") -> ResumePoint | None:
    """The checkpoint to start from: the newest undamaged one in the save folder, else `load_path`, else None.

    Damaged newer ones are skipped with a warning. One that is only in S3 is downloaded and checked.

    Raises:
        ConfigError: `load_path` does not exist or its name has no step, or S3 cannot be listed.
        DataError: there are checkpoints, but all of them are damaged.
    """
    if config.autoresume and (folder := config.local(run_folder)) is not None:
        damaged: list[str] = []
        for step, path, bucket in _saved(folder, config.remote):
            problem = _fetched_damage(path, bucket)
            if problem is None:
                return ResumePoint(str(path), step, tuple(damaged))
            damaged.append(f"{path if bucket is None else f'{bucket.address}/{path.name}'}: {problem}")
            log.warning("checkpoint %s is damaged; falling back to the one before (%s)", *damaged[-1].split(": ", 1))
        if damaged:
            raise DataError(
                f"all checkpoints of this run are damaged ({'; '.join(damaged)}); restore one from a copy, or "
                "move them away to start from step 0"
            )
    return None if config.load_path is None else _given(config.load_path)


def ensure_here(point: ResumePoint, config: CheckpointsConfig) -> None:
    """Fetch the checkpoint that rank 0 chose to this node, unless it is there.

    Raises:
        DataError: it is neither on a disk nor in a bucket that this node can read.
    """
    path = Path(point.path)
    if path.exists():
        return
    if config.remote is None:
        raise DataError(f"checkpoint {path} is on the first node only; put checkpoints.save_folder on a shared disk")
    Bucket(config.remote).fetch(path.name, path)


def set_aside(point: ResumePoint) -> list[str]:
    """Rename damaged checkpoints that are newer than `point`, so that they are not considered again; returns names."""
    renamed = []
    for path in Path(point.path).parent.glob("*"):
        newer = (step_of(str(path)) or 0) > point.step
        if newer and not path.is_symlink() and damage(path) is not None:
            path.rename(path.with_name(f"{path.name}.damaged"))
            renamed.append(path.name)
    return sorted(renamed)


def _given(path: str) -> ResumePoint:
    refuse_addresses({"checkpoints.load_path": path})
    step = step_of(path)
    if step is None:
        raise ConfigError(f"checkpoints.load_path: {path} is not named like a checkpoint (ba<step>-rank0.pt)")
    if not Path(path).exists():
        raise ConfigError(f"checkpoints.load_path: {path} does not exist")
    problem = damage(Path(path))
    if problem is not None:
        raise ConfigError(f"checkpoints.load_path: {path} is damaged ({problem}); give another checkpoint")
    return ResumePoint(path, step)


def _saved(folder: Path, remote: str | None) -> list[tuple[int, Path, Bucket | None]]:
    """Step, path on this machine, and bucket to fetch it from (None: it is on this machine); newest first."""
    there = [path for path in folder.glob("*") if not path.is_symlink()] if folder.is_dir() else []
    found: list[tuple[int, Path, Bucket | None]] = [
        (step, path, None) for path in there if (step := step_of(str(path))) is not None
    ]
    if remote is not None:
        bucket = Bucket(remote)
        found += [(step, folder / name, bucket) for name, step in bucket.steps().items()]
    # Of equal steps the local copy comes first; if it is damaged, the copy in S3 is tried.
    return sorted(found, key=lambda each: (-each[0], each[2] is not None))


def _fetched_damage(path: Path, bucket: Bucket | None) -> str | None:
    if bucket is None:
        return damage(path)
    problem: str | None = None
    for _ in range(FETCHES):
        try:
            bucket.fetch(path.name, path)
        except Unreachable:
            # The checkpoint may be whole: falling back to an older one would lose steps.
            raise
        except DataError as error:
            return str(error)
        problem = damage(path)
        if problem is None:
            break
        log.warning("checkpoint %s/%s arrived damaged (%s)", bucket.address, path.name, problem)
    return problem
