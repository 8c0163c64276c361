"""Jobs: pieces of work named by what goes in, whose results are kept until the build is done.

A job's key is a digest of everything its result depends on, so a result that is there is the right one, whoever
computed it and when. Which jobs there are depends on the input alone, never on the number of processes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from elc_composer.common.files import digest, write_json

Record = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One call of `function(job)`: it writes `job.data` and returns a record (JSON-serializable)."""

    function: Callable[[Job], Record]
    stage: str
    spec: dict[str, Any]
    """What the result depends on."""
    work: Path
    inputs: dict[str, Any] = field(default_factory=dict)
    """Where to find things: paths and offsets that `spec` already implies."""

    @property
    def key(self) -> str:
        """Digest of the spec."""
        return digest([self.stage, self.spec])

    @property
    def data(self) -> Path:
        """Where the job's bytes go."""
        return self.work / self.stage / self.key[:2] / self.key

    @property
    def record_path(self) -> Path:
        """Where it is written down that the job is done."""
        return self.data.with_name(self.key + ".json")

    def finished(self) -> Record | None:
        """The record of an earlier run, or None; None, too, where a file that it wrote is gone or has another size."""
        try:
            noted = json.loads(self.record_path.read_bytes())
            record, sizes = noted["record"], noted["sizes"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        return record if sizes == self.sizes() else None

    def sizes(self) -> dict[str, int]:
        """Bytes of each file that the job has written: its data, and what is called like it."""
        files = [self.data, *self.data.parent.glob(f"{self.key}.*")]
        return {path.name: path.stat().st_size for path in files if path.is_file() and path != self.record_path}


def execute(job: Job) -> Record:
    """Do the job and write down that it is done, after its data has reached the disk."""
    record = job.function(job)
    write_json(job.record_path, {"record": record, "sizes": job.sizes()})
    return record


Engine = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]
"""Applies a function to every item, somewhere, and yields (index of the item, result) in any order."""


def run_jobs(jobs: list[Job], engine: Engine, progress: Callable[[int], None]) -> list[Record]:
    """The records of all jobs, in order; those finished earlier are not done again. `progress` hears of each one."""
    records: list[Record | None] = [job.finished() for job in jobs]
    todo = [index for index, record in enumerate(records) if record is None]
    progress(len(jobs) - len(todo))
    for number, record in engine(execute, [jobs[index] for index in todo]):
        records[todo[number]] = record
        progress(1)
    return [record for record in records if record is not None]
