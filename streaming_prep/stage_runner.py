"""Run the jobs of one stage of a build, with the build's settings, work folder, engine and progress display."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streaming_prep.jobs.base import Engine, Job, Result, run_jobs
from streaming_prep.screen import Screen
from streaming_prep.settings import BuildSettings


@dataclass(frozen=True)
class StageRunner:
    """Runs jobs with one build's settings, engine, work folder and progress display."""

    settings: BuildSettings
    work: Path
    engine: Engine
    screen: Screen
    version: str
    """Digest of the code and packages that affect the results."""

    def run(self, name: str, jobs: Sequence[Job[Result]], engine: Engine | None = None) -> list[Result]:
        """The results of the jobs, in order; runs only those that are not finished."""
        with self.screen.stage(name, len(jobs)) as progress:
            return run_jobs(jobs, engine or self.engine, progress)


def run_in_this_process(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    """An engine without other processes."""
    for index, item in enumerate(items):
        yield index, function(item)
