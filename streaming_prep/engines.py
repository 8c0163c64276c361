"""Engines that run jobs: this process, processes of this machine, or a Ray cluster. The results are the same."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

from elc_composer.common.errors import ConfigError, DataError
from streaming_prep.jobs.base import Engine

ENGINES = ("local", "ray")
_AHEAD = 3


@contextmanager
def open_engine(name: str, workers: int) -> Iterator[Engine]:
    """Open an engine with that many workers; it shuts down when the block ends.

    Raises:
        ConfigError: unknown name, invalid number of workers, or Ray is not installed or does not answer.
    """
    if workers < 1:
        raise ConfigError(f"--workers {workers} is invalid; give at least 1")
    if name == "ray":
        from streaming_prep.ray_engine import open_ray

        with open_ray(workers) as engine:
            yield engine
    elif name != "local":
        raise ConfigError(f"--engine {name!r} is unknown; give one of {', '.join(ENGINES)}")
    elif workers == 1:
        yield _here
    else:
        # Spawn, not fork: threads and held locks of the tokenizers package do not survive a fork.
        with ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, (os.getpid(),)) as pool:
            try:
                yield _Pool(pool, workers)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _here(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    for index, item in enumerate(items):
        yield index, function(item)


class _Pool:
    def __init__(self, pool: ProcessPoolExecutor, workers: int) -> None:
        self._pool = pool
        self._ahead = _AHEAD * workers

    def __call__(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        waiting: dict[Future[Any], int] = {}
        remaining = enumerate(items)
        try:
            while True:
                while len(waiting) < self._ahead and (following := next(remaining, None)):
                    waiting[self._pool.submit(function, following[1])] = following[0]
                if not waiting:
                    return
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    yield waiting.pop(future), future.result()
        except BrokenProcessPool:
            raise DataError(
                "a worker process was killed, possibly because memory ran out; rerun the same command to resume, with "
                "fewer --workers if it happens again"
            ) from None


def _start_worker(parent: int) -> None:
    # One thread for each process: the processes already use all cores.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()


def _leave_with(parent: int) -> None:
    # Workers of a ProcessPoolExecutor wait for ever if their parent is killed.
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
