"""Run jobs on a Ray cluster. Only job descriptions are sent; the work folder must be on a disk that all nodes share."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from elc_composer.common.errors import ConfigError, DataError, one_line
from streaming_prep.jobs.base import Engine


@contextmanager
def open_ray(workers: int) -> Iterator[Engine]:
    """Connect to the cluster at RAY_ADDRESS, or start one on this machine; runs `workers` tasks at a time.

    Ray instead of Spark or Dask: it installs from one wheel without Java, and restarts tasks of a lost worker or node.
    A job may run twice, because it only replaces its result by the same bytes.

    Raises:
        ConfigError: Ray is not installed, or the cluster does not answer.
    """
    try:
        import ray
    except ImportError:
        raise ConfigError("--engine ray needs the package ray; run pip install 'elc-composer[ray]'") from None
    ours = not ray.is_initialized()
    if ours:
        try:
            _connect(ray, workers)
        except ConnectionError as error:
            raise ConfigError(f"no Ray cluster answers ({one_line(error)}); check RAY_ADDRESS") from None
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
    # Without this check Ray retries for many minutes and prints many lines.
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        except OSError as error:
            raise ConfigError(f"no Ray cluster answers at {address} ({error}); check RAY_ADDRESS") from None


class _RayEngine:
    def __init__(self, ray: Any, workers: int) -> None:
        self._ray = ray
        self._workers = workers
        # -1: restart a task that was lost with its worker without limit.
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
                    raise DataError(f"Ray lost a job ({one_line(error)}); rerun the same command to resume") from None
                yield waiting.pop(reference), result


def _apply(function: Callable[[Any], Any], item: Any) -> Any:
    return function(item)
