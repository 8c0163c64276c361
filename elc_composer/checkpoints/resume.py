"""Which checkpoint a run continues from: the newest whole one, chosen here rather than by Composer's autoresume.

Composer's own autoresume trusts a `latest` link, caches remote files under a literal `./s3:` folder and cannot fall
back from a truncated file; choosing by name and integrity, and handing over the result as `load_path`, avoids these.
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
from elc_composer.common.storage import Unreachable

log = logging.getLogger(__name__)

FETCHES = 2
"""How often a checkpoint is downloaded that is damaged when it is here: the way may have done it."""


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
    """Checkpoint to start from; loading unpickles it, which can run code, so use only your own."""

    def __post_init__(self) -> None:
        if self.keep == 0 or self.keep < -1:
            raise ConfigError(f"checkpoints.keep is {self.keep}; keep at least 1, or -1 for all")
        parse_interval(self.save_interval, "checkpoints.save_interval")
        refuse_addresses({"checkpoints.load_path": self.load_path})
        if self.remote is not None:
            parse_save_folder(self.remote)

    @property
    def remote(self) -> str | None:
        """The address of the copies, if there are to be any."""
        return self.save_folder if self.save_folder is not None and is_address(self.save_folder) else None

    def local(self, run_folder: str) -> Path | None:
        """Where this machine writes checkpoints; None if nothing is saved."""
        if self.save_folder is None:
            return None
        return Path(run_folder) / "checkpoints" if self.remote else Path(local_path(self.save_folder))


@dataclass(frozen=True)
class ResumePoint:
    """A checkpoint on this machine and the optimizer step that it was taken after."""

    path: str
    step: int
    damaged: tuple[str, ...] = ()
    """Newer checkpoints that were passed over, each with what is wrong with it."""


def find_resume_point(config: CheckpointsConfig, run_folder: str = ".") -> ResumePoint | None:
    """The checkpoint to start from: the newest whole one that was saved, else `load_path`, else None.

    Damaged newer ones are passed over with a warning that names them. One that is only in S3 is downloaded and checked.

    Raises:
        ConfigError: if `load_path` does not exist or its name does not tell the step, or S3 cannot be listed.
        DataError: if there are checkpoints but all of them are damaged.
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
                "move them away to start anew"
            )
    return None if config.load_path is None else _given(config.load_path)


def ensure_here(point: ResumePoint, config: CheckpointsConfig) -> None:
    """Have a checkpoint that rank 0 chose on this node, too.

    Raises:
        DataError: if it is on no disk and in no bucket that this node can see.
    """
    path = Path(point.path)
    if path.exists():
        return
    if config.remote is None:
        raise DataError(f"checkpoint {path} is on the first node only; put checkpoints.save_folder on a common disk")
    Bucket(config.remote).fetch(path.name, path)


def set_aside(point: ResumePoint) -> list[str]:
    """Rename the damaged checkpoints beside the one that is taken, lest they count as the newest ones later."""
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
        raise ConfigError(f"checkpoints.load_path: {path} is damaged ({problem}); name another checkpoint")
    return ResumePoint(path, step)


def _saved(folder: Path, remote: str | None) -> list[tuple[int, Path, Bucket | None]]:
    """Step, place on this machine, and where to fetch it from unless it is there already; the newest first."""
    there = [path for path in folder.glob("*") if not path.is_symlink()] if folder.is_dir() else []
    found: list[tuple[int, Path, Bucket | None]] = [
        (step, path, None) for path in there if (step := step_of(str(path))) is not None
    ]
    if remote is not None:
        bucket = Bucket(remote)
        found += [(step, folder / name, bucket) for name, step in bucket.steps().items()]
    # The copy on this machine first; should it be damaged, the one in S3.
    return sorted(found, key=lambda each: (-each[0], each[2] is not None))


def _fetched_damage(path: Path, bucket: Bucket | None) -> str | None:
    if bucket is None:
        return damage(path)
    problem: str | None = None
    for _ in range(FETCHES):
        try:
            bucket.fetch(path.name, path)
        except Unreachable:
            # Not damaged, as far as one can tell: an older one would be the wrong one to go on from.
            raise
        except DataError as error:
            return str(error)
        problem = damage(path)
        if problem is None:
            break
        log.warning("checkpoint %s/%s arrived damaged (%s)", bucket.address, path.name, problem)
    return problem
