"""Job: plan the segments of a split at one sequence length."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from elc_composer.common.files import atomic_file
from streaming_prep.jobs.base import Job
from streaming_prep.packing import Meter, PackingReport, pack

_ROW_BYTES = 16


@dataclass(frozen=True)
class PlanSpec:
    """What the segments of a split depend on."""

    tokens_of: list[str]
    """Keys of the jobs that tokenized the split, in order."""
    ends_document: list[bool]
    """True for chunks whose end is the end of a document."""
    tokens: int
    seq_length: int
    packing: str
    document_aware: bool


@dataclass(frozen=True)
class PlanSegments(Job[PackingReport]):
    """Sentence lengths -> int64 [samples, 2], the start and length of each segment; see `streaming_prep.packing`."""

    stage: ClassVar[str] = "plan"
    result_type: ClassVar[type[PackingReport]] = PackingReport

    spec: PlanSpec
    lengths: list[Path]

    def _run(self) -> PackingReport:
        blocks = (np.fromfile(path, np.int32) for path in self.lengths)
        ended = (np.append(block, 0) if end else block for block, end in zip(blocks, self.spec.ends_document))
        meter = Meter()
        with atomic_file(self.data) as file:
            for segments in pack(ended, self.spec.seq_length, self.spec.packing, self.spec.document_aware):
                meter.add(segments)
                file.write(segments.tobytes())
        return meter.finish(self.spec.tokens)


def read_plan(path: Path, first: int, samples: int) -> np.ndarray:
    """Rows [first, first + samples) of a plan, int64 [samples, 2]."""
    return np.fromfile(path, np.int64, 2 * samples, offset=_ROW_BYTES * first).reshape(-1, 2)
