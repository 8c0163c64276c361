"""The folder that holds finished jobs until a build is done: one build at a time, and nothing in it but our own."""

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
_STAGES = ("clean", "tokenizer", "tokenize", "plan", "report", "shard")
_OURS = (*_STAGES, "uploaded", "out", "inputs.json")


def cache_folder(url: str) -> Path:
    """The work folder of a build that goes to a URL: below the user's cache."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "streaming_prep" / digest(url.rstrip("/"))[:16]


@contextmanager
def work_folder(work: Path) -> Iterator[None]:
    """The folder, there and free of a killed build's temporary files, ours alone until the block ends.

    Raises `ConfigError` where another build is at work in it, and where it holds anything but a build's work.
    """
    with _locked(work):
        _sweep(work)
        foreign = sorted(path.name for path in work.iterdir() if path.name not in (*_OURS, _LOCK))
        if foreign:
            raise ConfigError(
                f"the work folder {work} holds other things ({', '.join(foreign[:3])}); give --work a folder of its own"
            )
        yield


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """No other build writes to the folder until the block ends, whatever its work folder; `ConfigError` otherwise."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems have no locks on folders
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(f"another build is at work in {folder}; wait for it or give another --out") from None
        yield
    finally:
        os.close(handle)


def remove_work(work: Path) -> None:
    """Take the work folder away; call it while it is ours. The lock goes last, so that whoever comes finds it whole."""
    for name in _OURS:
        if (work / name).is_dir():
            shutil.rmtree(work / name, ignore_errors=True)
        else:
            (work / name).unlink(missing_ok=True)
    with suppress(OSError):  # the next build may be in it already
        (work / _LOCK).unlink()
        work.rmdir()


@contextmanager
def _locked(work: Path) -> Iterator[None]:
    while True:
        work.mkdir(parents=True, exist_ok=True)
        try:
            lock = open(work / _LOCK, "w")  # noqa: SIM115
        except FileNotFoundError:
            continue  # the build before has just taken its folder away
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(f"another build is at work in {work}; wait for it or give another --out") from None
            if _still_there(lock, work / _LOCK):
                yield
                return


def _still_there(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _sweep(work: Path) -> None:
    stages = [path for stage in _STAGES for path in (work / stage).glob("*/.*.tmp")]
    for path in [*stages, *work.glob(".inputs.json.*.tmp")]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
