"""Unique shared-memory prefixes and exclusive cache folders, so that concurrent or killed runs do not collide.

StreamingDataset (mosaicml-streaming 0.13.0) shares its state between processes under names that begin with a number. It
tries 0, 1, 2, ... until a name is free. Two runs that start together find the same number, and a killed run leaves its
names and its claim on a cache folder behind, which then look used for ever. Here the number is random and claimed by
creating the name, and locks that the kernel releases with their last process tell which runs are alive.
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import logging
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from streaming.base import dataset as streaming_dataset
from streaming.base.constant import BARRIER_FILELOCK, CACHE_FILELOCK, LOCALS, SHM_TO_CLEAN
from streaming.base.shared import SharedMemory
from streaming.base.world import World
from torch import distributed

from elc_composer.common.errors import DataError

log = logging.getLogger(__name__)

PATIENCE = 20.0
"""Seconds to wait for a cache folder: the workers of a killed run live for about five more."""

Result = TypeVar("Result")


@contextmanager
def random_prefixes() -> Iterator[None]:
    """Give each dataset that is created inside a random prefix, the same on all ranks of a node."""
    original = streaming_dataset.get_shm_prefix
    streaming_dataset.get_shm_prefix = _claim_prefix
    try:
        yield
    finally:
        streaming_dataset.get_shm_prefix = original


class CacheFolders:
    """Locks on cache folders, held until `release`, or until this process and its children have ended.

    Args:
        folders: the cache folders of streams that are downloaded, not of streams that are read in place.

    Raises:
        DataError: another run uses one of them; raised on every rank of the node.
    """

    def __init__(self, folders: Sequence[str]) -> None:
        self._locks: list[_Lock] = []
        _leader_decides(lambda: self._acquire(folders))

    def _acquire(self, folders: Sequence[str]) -> None:
        for folder in map(os.path.realpath, folders):
            name = hashlib.sha256(folder.encode()).hexdigest()[:16]
            lock = _Lock(_registry() / f"cache-{name}.lock")
            if not lock.acquire(PATIENCE):
                owner = lock.read().strip() or "unknown"
                self.release()
                raise DataError(
                    f"the cache folder {folder} is in use by another run on this machine (process {owner}); "
                    "end that run, or set another folder in data.streams: local"
                )
            lock.write(f"{os.getpid()}\n")
            self._locks.append(lock)

    def release(self) -> None:
        """Release the folders."""
        while self._locks:
            self._locks.pop().close()

    def __getstate__(self) -> dict[str, Any]:
        return {"_locks": []}


class _Lock:
    """A file lock that forked children share; the kernel releases it with the last process that has it open.

    The package filelock does not fit: a worker that ends would release the lock for all.
    """

    # Paths by the process that holds them: waiting for oneself is useless.
    _held: dict[str, int] = {}  # noqa: RUF012

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def acquire(self, patience: float = 0.0) -> bool:
        """Try for `patience` seconds; whether it succeeded."""
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                own = self._held.get(str(self.path)) == os.getpid()
                if own or time.monotonic() >= deadline:
                    return False
                time.sleep(0.1)
            else:
                self._held[str(self.path)] = os.getpid()
                return True

    def read(self) -> str:
        return os.pread(self._file, 1 << 16, 0).decode()

    def write(self, text: str) -> None:
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, text.encode(), 0)

    def append(self, text: str) -> None:
        os.pwrite(self._file, text.encode(), os.fstat(self._file).st_size)

    def close(self) -> None:
        if self._file >= 0:
            if self._held.get(str(self.path)) == os.getpid():
                del self._held[str(self.path)]
            os.close(self._file)
            self._file = -1

    def __del__(self) -> None:
        self.close()


_claims: dict[int, _Lock] = {}
"""By process: the file that lists its prefixes, locked while the process or a child of it is alive."""


_used: set[int] = set()
"""Prefixes of datasets of this process, whose lock files are removed at its end."""


def remove_lock_files(prefix: int) -> None:
    """Remove the two lock files of a dataset in the temporary folder, which Streaming 0.13.0 leaves there.

    Call it when no other process uses the dataset: two processes could hold a lock that one of them has removed.
    """
    for name in (BARRIER_FILELOCK, CACHE_FILELOCK):
        Path(tempfile.gettempdir(), _name(prefix, name)).unlink(missing_ok=True)


def _remove_all_lock_files(process: int) -> None:
    # At exit only, where several ranks share them. Each rank does so, since those that end later create them again.
    if os.getpid() == process:
        for prefix in _used:
            remove_lock_files(prefix)


def _claim_prefix(
    streams_local: list[str], streams_remote: list[str | None], world: World, retry: int = 100
) -> tuple[int, SharedMemory]:
    """Replacement for Streaming's `get_shm_prefix`, whose checks of folders `CacheFolders` does."""
    memory: list[SharedMemory] = []
    prefix = _leader_decides(lambda: _create(memory))
    if not memory:
        memory.append(SharedMemory(_name(prefix, LOCALS), False))
    if not _used:
        atexit.register(_remove_all_lock_files, os.getpid())
    _used.add(prefix)
    return prefix, memory[0]


def _create(memory: list[SharedMemory]) -> int:
    registry = _registry()
    with _exclusive(registry):
        _sweep(registry)
        claims = _claims.get(os.getpid())
        if claims is None:
            # The random part tells it from a file that a dead process with the same id left.
            claims = _Lock(registry / f"prefixes-{os.getpid()}-{random.SystemRandom().randrange(1 << 32):x}.lock")
            claims.acquire()
            _claims[os.getpid()] = claims
        while True:
            # Ten digits keep the longest name within macOS's 31 characters.
            prefix = random.SystemRandom().randrange(10**9, 10**10)
            with suppress(FileExistsError):
                memory.append(SharedMemory(_name(prefix, LOCALS), True, 8))
                claims.append(f"{prefix}\n")
                return prefix


def _sweep(registry: Path) -> None:
    """Remove the shared memory and lock files of this user's dead runs."""
    for path in registry.glob("prefixes-*.lock"):
        lock = _Lock(path)
        if lock.acquire():
            for prefix in lock.read().split():
                _remove(int(prefix))
            path.unlink(missing_ok=True)
        lock.close()


def _remove(prefix: int) -> None:
    removed = False
    for name in SHM_TO_CLEAN:
        # Unlink the file itself: Python's SharedMemory would register it with this process's resource tracker.
        for path in Path("/dev/shm").glob(_name(prefix, name)):
            path.unlink(missing_ok=True)
            removed = True
    remove_lock_files(prefix)
    if removed:
        log.info("removed the shared memory %06d_* of a run that was killed", prefix)


def _name(prefix: int, name: str) -> str:
    return f"{prefix:06}_{name}"


def _registry() -> Path:
    folder = Path(tempfile.gettempdir(), f"elc_composer-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


@contextmanager
def _exclusive(registry: Path) -> Iterator[None]:
    lock = _Lock(registry / "registry.lock")
    # A thread of this process that holds it is about to release it.
    while not lock.acquire(60.0):
        time.sleep(0.01)
    try:
        yield
    finally:
        lock.close()


def _leader_decides(decide: Callable[[], Result]) -> Result:
    """Run `decide` on each node's first rank; all ranks of the node return its result or raise its error."""
    world = World.detect()
    outcome: tuple[Any, DataError | None] = (None, None)
    if world.is_local_leader:
        try:
            outcome = decide(), None
        except DataError as error:
            outcome = None, error
    if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
        everyone: list[Any] = [None] * distributed.get_world_size()
        distributed.all_gather_object(everyone, (world.node, world.is_local_leader, outcome))
        outcome = next(theirs for node, leads, theirs in everyone if leads and node == world.node)
    result, failure = outcome
    if failure is not None:
        raise failure
    return result
