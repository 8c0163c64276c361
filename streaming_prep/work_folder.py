"""The work folder: holds finished jobs until the build completes; locked so that only one build uses it."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from elc_composer.common.errors import ConfigError
from elc_composer.common.files import digest

WORK = ".work"
_LOCK = "lock"
_STAGES = ("clean", "split", "tokenizer", "tokenize", "plan", "report", "shard")
INPUTS = "inputs.json"
"""The inputs of the build that uses the folder; see `streaming_prep.build`."""
_OURS = (*_STAGES, "uploaded", "out", INPUTS)


def cache_folder(url: str) -> Path:
    """The work folder of a build to a URL, in the user's cache."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "streaming_prep" / digest(url.rstrip("/"))[:16]


@contextmanager
def work_folder(work: Path) -> Iterator[None]:
    """Make the folder, remove temporary files of a killed build, and lock it until the block ends.

    Raises:
        ConfigError: another build uses it, or it holds files of something else.
    """
    with _locked(work):
        _sweep(work)
        foreign = sorted(path.name for path in work.iterdir() if path.name not in (*_OURS, _LOCK))
        if foreign:
            raise ConfigError(
                f"the work folder {work} holds other files ({', '.join(foreign[:3])}); give --work an empty folder"
            )
        yield


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Lock an output folder until the block ends: builds with other work folders must not write to it.

    Raises:
        ConfigError: another build is writing to it.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems cannot lock folders
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(f"another build uses {folder}; wait for it or give another --out") from None
        yield
    finally:
        os.close(handle)


def remove_work(work: Path) -> None:
    """Remove the work folder, which the caller must have locked. Removes the lock last: the next build waits for it."""
    for name in _OURS:
        if (work / name).is_dir():
            shutil.rmtree(work / name, ignore_errors=True)
        else:
            (work / name).unlink(missing_ok=True)
    with suppress(OSError):  # the next build may use it already
        (work / _LOCK).unlink()
        work.rmdir()


@contextmanager
def _locked(work: Path) -> Iterator[None]:
    while True:
        work.mkdir(parents=True, exist_ok=True)
        try:
            lock = open(work / _LOCK, "w")  # noqa: SIM115
        except FileNotFoundError:
            continue  # the previous build has just removed the folder
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(f"another build uses {work}; wait for it or give another --out") from None
            if _still_there(lock, work / _LOCK):
                yield
                return


def _still_there(file: IO[str], path: Path) -> bool:
    """False if the previous build removed the folder between our opening and locking the file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _sweep(work: Path) -> None:
    """Remove temporary files of a killed build, and folders in the place of records, which could not be written."""
    temporary = [path for stage in _STAGES for path in (work / stage).glob("*/.*.tmp")]
    records = [path for stage in _STAGES for path in (work / stage).glob("*/*.json")]
    blocked = [path for path in [*records, work / INPUTS] if path.is_dir()]
    for path in [*temporary, *work.glob(f".{INPUTS}.*.tmp"), *blocked]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
