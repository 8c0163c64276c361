"""Jobs: units of work whose results stay in the work folder until the build completes.

A job's key is a digest of everything that its result depends on. A stored result with that key is therefore correct,
whichever process or earlier run computed it. The list of jobs depends on the input alone, not on the number of workers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from elc_composer.common.errors import DataError
from elc_composer.common.files import digest, write_json
from elc_composer.common.json_files import read_json

Result = TypeVar("Result")


@dataclass(frozen=True)
class Done:
    """The result of a job that has nothing to report beyond its files."""


@dataclass(frozen=True)
class Job(ABC, Generic[Result]):
    """One unit of work; subclasses add the paths of their input files, whose content the spec determines."""

    stage: ClassVar[str]
    result_type: ClassVar[type[Any]]
    """A dataclass of JSON-serializable values."""

    work: Path
    spec: Any
    """A dataclass of JSON-serializable values: everything that the result depends on."""

    @abstractmethod
    def _run(self) -> Result:
        """Write `data`, and `<key>.*` beside it, and return the result."""

    @cached_property
    def key(self) -> str:
        """Digest of the spec."""
        return digest([self.stage, asdict(self.spec)])

    @property
    def data(self) -> Path:
        """The file that the job writes."""
        return self.work / self.stage / self.key[:2] / self.key

    @property
    def record_path(self) -> Path:
        """The record of a finished job."""
        return self.beside(".json")

    def beside(self, suffix: str) -> Path:
        """`<key><suffix>`, beside `data`."""
        return self.data.with_name(self.key + suffix)

    def finished(self) -> Result | None:
        """The result of an earlier run; None if its record is missing or damaged, or a file's size differs from it."""
        try:
            record = read_json(self.record_path)
        except DataError:
            return None
        if not isinstance(record, dict) or record.get("digest") != digest([record.get("result"), record.get("sizes")]):
            return None
        if record["sizes"] != self.sizes():
            return None
        result: Result = self.result_type(**record["result"])
        return result

    def sizes(self) -> dict[str, int]:
        """Bytes of each file that the job wrote: `<key>` and `<key>.*`."""
        files = [self.data, *self.data.parent.glob(f"{self.key}.*")]
        return {path.name: path.stat().st_size for path in files if path.is_file() and path != self.record_path}

    def execute(self) -> Result:
        """Run the job, then write its record, after its files have reached the disk."""
        result = self._run()
        values, sizes = asdict(result), self.sizes()  # type: ignore[call-overload]
        write_json(self.record_path, {"result": values, "sizes": sizes, "digest": digest([values, sizes])})
        return result


def execute(job: Job[Result]) -> Result:
    """`job.execute()`, as a function that an engine can send to another process."""
    return job.execute()


Engine = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]
"""Applies a function to every item and yields (index of the item, result) in any order."""


def run_jobs(jobs: Sequence[Job[Result]], engine: Engine, progress: Callable[[int], None]) -> list[Result]:
    """The results of all jobs, in order; runs only those that are not finished. `progress` gets numbers of jobs."""
    results: dict[int, Result] = {}
    for index, job in enumerate(jobs):
        found = job.finished()
        if found is not None:
            results[index] = found
    todo = [index for index in range(len(jobs)) if index not in results]
    progress(len(results))
    for number, result in engine(execute, [jobs[index] for index in todo]):
        results[todo[number]] = result
        progress(1)
    return [results[index] for index in range(len(jobs))]
