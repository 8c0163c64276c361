"""Which checkpoint a run continues from: the newest whole one, chosen here rather than by Composer's autoresume.

Composer's own autoresume trusts a `latest` link, caches remote files under a literal `./s3:` folder and cannot fall
back from a truncated file; choosing by name and integrity, and handing over the result as `load_path`, avoids these.
"""

from __future__ import annotations

import logging
import zipfile
from dataclasses import dataclass
from pathlib import Path

from composer import Time
from composer.utils import maybe_create_object_store_from_uri, parse_uri

from elc_composer.checkpoints.names import step_of
from elc_composer.errors import ConfigError

log = logging.getLogger(__name__)


@dataclass
class CheckpointsConfig:
    """Where training state is saved and what a run starts from."""

    save_folder: str | None = "${run_folder}/checkpoints"
    """Folder or s3:// URI; null saves nothing."""
    save_interval: str = "500ba"
    """Composer time string; the end of every stage and of the run is saved, too."""
    keep: int = 3
    """Local checkpoints kept, the newest ones; -1 keeps all."""
    autoresume: bool = True
    """Continue from the newest whole checkpoint in `save_folder`, if there is one."""
    load_path: str | None = None
    """Continue from this checkpoint of your own; loading unpickles, so never from one of unknown origin."""

    def __post_init__(self) -> None:
        if self.keep == 0 or self.keep < -1:
            raise ConfigError(f"checkpoints.keep is {self.keep}; keep at least 1, or -1 for all")
        check_interval("checkpoints.save_interval", self.save_interval)


def check_interval(key: str, interval: str) -> None:
    """Refuse what Composer cannot read as a time.

    Raises:
        ConfigError: naming the key.
    """
    try:
        whole = Time.from_timestring(interval).value > 0
    except (ValueError, TypeError):
        whole = False
    if not whole:
        raise ConfigError(f"{key} is {interval!r}; it must be a Composer time string such as 500ba or 1ep")


@dataclass(frozen=True)
class ResumePoint:
    """A checkpoint and the optimizer step that it was taken after."""

    path: str
    step: int


def find_resume_point(config: CheckpointsConfig) -> ResumePoint | None:
    """The checkpoint to start from: the newest whole one in the save folder, else `load_path`, else None.

    A damaged newer one is passed over with a warning that names it.

    Raises:
        ConfigError: if `load_path` does not exist or its name does not tell the step.
    """
    if config.autoresume and config.save_folder is not None:
        for point in _saved(config.save_folder):
            if _is_whole(point.path):
                return point
            log.warning("checkpoint %s is damaged; falling back to the one before", point.path)
    if config.load_path is None:
        return None
    step = step_of(config.load_path)
    if step is None:
        raise ConfigError(
            f"checkpoints.load_path: {config.load_path} is not named like a checkpoint (ba<step>-rank0.pt)"
        )
    if "://" not in config.load_path and not Path(config.load_path).exists():
        raise ConfigError(f"checkpoints.load_path: {config.load_path} does not exist")
    if not _is_whole(config.load_path):
        raise ConfigError(f"checkpoints.load_path: {config.load_path} is damaged; name another checkpoint")
    return ResumePoint(config.load_path, step)


def _saved(folder: str) -> list[ResumePoint]:
    """Checkpoints in a local or remote folder, the newest first."""
    if "://" in folder:
        store = maybe_create_object_store_from_uri(folder)
        assert store is not None
        scheme, bucket, prefix = parse_uri(folder)
        prefix = f"{prefix.rstrip('/')}/"
        keys = [key.removesuffix("/.metadata") for key in store.list_objects(prefix)]
        # Object stores list by prefix: deeper folders are other runs' or a sharded checkpoint's own files.
        names = [f"{scheme}://{bucket}/{key}" for key in keys if "/" not in key.removeprefix(prefix)]
    else:
        names = [str(path) for path in Path(folder).glob("*") if not path.is_symlink()]
    points = [ResumePoint(name, step) for name in names if (step := step_of(name)) is not None]
    return sorted(points, key=lambda point: point.step, reverse=True)


def _is_whole(path: str) -> bool:
    """Every member of a full checkpoint's archive matches its checksum; a sharded one has its index, written last."""
    if "://" in path:
        return True
    local = Path(path)
    if local.is_dir():
        return (local / ".metadata").is_file()
    try:
        with zipfile.ZipFile(local) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, OSError, EOFError):
        return False
