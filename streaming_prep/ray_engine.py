"""Jobs on a Ray cluster. The work folder must be on a disk that every node sees; only job descriptions travel."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from elc_composer.common.errors import ConfigError, DataError
from streaming_prep.jobs.base import Engine


@contextmanager
def open_ray(workers: int) -> Iterator[Engine]:
    """An engine on the cluster of RAY_ADDRESS, or one on this machine that is started here, `workers` tasks at a time.

    Ray was taken rather than Spark or Dask because it installs from one wheel without Java, and starts a task again by
    itself when its worker or node dies; a job may run twice, since it only ever replaces its result by the same bytes.

    Raises `ConfigError` where the package is not installed or the cluster does not answer.
    """
    try:
        import ray
    except ImportError:
        raise ConfigError("--engine ray needs the package ray; pip install 'elc-composer[ray]'") from None
    ours = not ray.is_initialized()
    if ours:
        try:
            _connect(ray, workers)
        except ConnectionError as error:
            raise ConfigError(f"no Ray cluster answers ({str(error).splitlines()[0]}); see RAY_ADDRESS") from None
    try:
        yield _RayEngine(ray, workers)
    finally:
        if ours:
            ray.shutdown()


def _connect(ray: Any, workers: int) -> None:
    if address := os.environ.get("RAY_ADDRESS"):
        _knock(address)
        ray.init(address="auto", log_to_driver=False)
    else:
        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)


def _knock(address: str) -> None:
    # Ray would try for many minutes, and a library's lines would fill the screen.
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        except OSError as error:
            raise ConfigError(f"no Ray cluster answers at {address} ({error}); see RAY_ADDRESS") from None


class _RayEngine:
    def __init__(self, ray: Any, workers: int) -> None:
        self._ray = ray
        self._workers = workers
        # -1: a task lost with its worker is started again for as long as there is a worker.
        self._apply = ray.remote(max_retries=-1, num_cpus=1)(_apply)

    def __call__(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        ray = self._ray
        waiting: dict[Any, int] = {}
        remaining = enumerate(items)
        while True:
            while len(waiting) < 2 * self._workers and (following := next(remaining, None)):
                waiting[self._apply.remote(function, following[1])] = following[0]
            if not waiting:
                return
            for reference in ray.wait(list(waiting))[0]:
                try:
                    result = ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from None
                except ray.exceptions.RayError as error:
                    raise DataError(
                        f"Ray lost a job for good ({str(error).splitlines()[0]}); run the same command again"
                    ) from None
                yield waiting.pop(reference), result


def _apply(function: Callable[[Any], Any], item: Any) -> Any:
    return function(item)
