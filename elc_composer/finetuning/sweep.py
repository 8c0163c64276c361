"""Runs fine-tuning jobs over processes or GPUs; a failed job does not stop the others.

Each worker process takes one job at a time and keeps the token ids of its last tasks. A worker whose parent was killed
ends at once, so that a restarted sweep never shares a folder with it.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from elc_composer.common.errors import ConfigError, one_line
from elc_composer.finetuning.job import Job

Outcome = tuple[dict[str, Any] | None, str | None, float]
"""Result, error message and seconds of a job."""


@dataclass(frozen=True)
class Place:
    """Where a worker computes."""

    device: str
    """`cpu` or `gpu`."""
    environment: tuple[tuple[str, str], ...]


def places(device: str, jobs: int | None) -> list[Place]:
    """One place for each worker: the GPUs, or `jobs` processes that share the CPU's cores.

    Args:
        device: `auto` (GPUs if there are any), `cpu` or `gpu`.
        jobs: number of workers; None: one per GPU, one on the CPU. More workers than GPUs share them.

    Raises:
        ConfigError: no GPU where one is asked for, or a number out of range.
    """
    if device not in ("auto", "cpu", "gpu"):
        raise ConfigError(f"device is '{device}', must be one of auto, cpu, gpu")
    if jobs is not None and jobs < 1:
        raise ConfigError(f"jobs is {jobs}, must be at least 1")
    gpus = torch.cuda.device_count() if device != "cpu" else 0
    if device == "gpu" and not gpus:
        raise ConfigError("device is 'gpu', but torch sees none; use device cpu or auto")
    if not gpus:
        count = jobs or 1
        cores = int(os.environ.get("OMP_NUM_THREADS") or 0) or len(os.sched_getaffinity(0))
        return [Place("cpu", (("OMP_NUM_THREADS", str(max(1, cores // count))),))] * count
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(number) for number in range(gpus)]
    return [Place("gpu", (("CUDA_VISIBLE_DEVICES", names[i % gpus]),)) for i in range(jobs or gpus)]


class _Worker:
    """A process that runs jobs."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.job: Job | None = None
        self.since = 0.0
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, place.device), daemon=True)
        with _environment(place.environment):
            self.process.start()
        theirs.close()

    def give(self, job: Job) -> None:
        """Send a job."""
        self.job, self.since = job, time.monotonic()
        self.pipe.send(job)

    def take(self) -> Outcome:
        """The outcome of the job, once the pipe is readable. A process that died is an error."""
        try:
            result, error = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(10)
            result, error = None, f"the process ended with exit code {self.process.exitcode}"
        self.job = None
        return result, error, time.monotonic() - self.since

    def close(self) -> None:
        """End the process."""
        self.pipe.close()
        self.process.join(10)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def run_jobs(
    jobs: Sequence[Job], workers: Sequence[Place], done: Callable[[Job, Outcome], None] | None = None
) -> dict[str, Outcome]:
    """Run the jobs, at most one per worker at a time, and call `done` after each.

    Returns:
        The outcome of each job by its name, in the order of `jobs`.
    """
    waiting = list(jobs)
    outcomes: dict[str, Outcome] = {}
    for job in jobs:
        found = job.finished()
        if found is not None:
            outcomes[job.name] = (found, None, 0.0)
            waiting.remove(job)
            if done is not None:
                done(job, outcomes[job.name])
    idle = list(workers)[: len(waiting)]
    running: list[_Worker] = []
    try:
        while waiting or any(worker.job for worker in running):
            for worker in running:
                if worker.job is None and waiting:
                    worker.give(waiting.pop(0))
            while idle and waiting:
                running.append(_Worker(idle.pop(0)))
                running[-1].give(waiting.pop(0))
            busy = {worker.pipe: worker for worker in running if worker.job is not None}
            for pipe in wait(list(busy)):
                assert isinstance(pipe, Connection)
                worker = busy[pipe]
                ended = worker.job
                assert ended is not None
                outcomes[ended.name] = worker.take()
                if done is not None:
                    done(ended, outcomes[ended.name])
                if not worker.process.is_alive():
                    running.remove(worker)
                    idle.append(worker.place)
    finally:
        for worker in running:
            if worker.job is not None:
                worker.process.kill()
            worker.close()
    return {job.name: outcomes[job.name] for job in jobs}


def _work(pipe: Connection, device: str) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    # Imported here: a worker that only waits needs no Composer.
    from elc_composer.finetuning.job import run_job

    if "OMP_NUM_THREADS" in os.environ and device == "cpu":
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((run_job(job, device), None))
        except Exception as error:
            traceback.print_exc()
            pipe.send((None, f"{type(error).__name__}: {one_line(error)}"))


def _end_with(sentinel: int) -> None:
    """End this process when its parent has ended; a killed parent cannot tell its children."""
    wait([sentinel])
    os._exit(1)


@contextmanager
def _environment(values: Sequence[tuple[str, str]]) -> Iterator[None]:
    """Set environment variables for the processes that start within the block."""
    before = {name: os.environ.get(name) for name, _ in values}
    os.environ.update(dict(values))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
