"""Ending of loader worker processes: closes loaders at interpreter exit; decides when a worker obeys SIGTERM."""

from __future__ import annotations

import atexit
import os
import signal
import weakref
from multiprocessing.sharedctypes import RawValue
from types import FrameType
from typing import Any, Protocol


class Closable(Protocol):
    """Anything with `close()`, such as a loader."""

    def close(self) -> None:
        """Release what it holds."""


class StopFlag:
    """A flag in memory that a loader shares with its workers; once set, a worker ends on SIGTERM.

    Before that a worker ignores SIGTERM: a scheduler that takes a machine away sends it to all processes of a job, and
    the rank still needs its workers for the current batch.
    """

    def __init__(self) -> None:
        # Without a lock: a signal handler reads it, and a lock could be held by the code that the handler interrupts.
        self._value = RawValue("b", 0)

    def set(self) -> None:
        """Let the workers end."""
        self._value.value = 1

    def clear(self) -> None:
        """Let the workers ignore SIGTERM again."""
        self._value.value = 0

    def init_worker(self, worker: int) -> None:
        """The DataLoader's `worker_init_fn`: handle SIGTERM in this worker."""
        signal.signal(signal.SIGTERM, self._on_sigterm)

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        if self._value.value:
            # Not sys.exit: Python would wait for the threads that download ahead.
            os._exit(0)


_open: weakref.WeakSet[Any] = weakref.WeakSet()


def close_at_exit(loader: Closable) -> None:
    """Close the loader at interpreter exit, unless it is garbage by then. Call it when its workers have started.

    Exit callbacks run in reverse order of registration, so the callback is registered again for each loader. It must
    run before those that are registered when torch is imported and when workers start (seen with torch 2.7.0 and 2.14):
    torch marks the interpreter as exiting, after which a DataLoader no longer stops its workers; it then waits five
    seconds for each persistent worker; and multiprocessing sends SIGTERM to every worker and waits without end.
    """
    _open.add(loader)
    atexit.unregister(_close_open_loaders)
    atexit.register(_close_open_loaders)


def forget(loader: Closable) -> None:
    """Undo `close_at_exit` for a loader that has been closed."""
    _open.discard(loader)


def _close_open_loaders() -> None:
    for loader in list(_open):
        loader.close()
