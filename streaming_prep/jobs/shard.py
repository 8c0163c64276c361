"""Job: write one shard of a planned output."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from streaming_prep.jobs.base import Job
from streaming_prep.jobs.plan import read_plan
from streaming_prep.mds_shards import write_shard


@dataclass(frozen=True)
class ShardSpec:
    """What a shard depends on."""

    plan: str
    """Key of the job that planned the segments."""
    first: int
    samples: int
    encoding: str
    """Of the MDS column, such as `ndarray:uint16`."""
    version: str


@dataclass(frozen=True)
class TokenPiece:
    """A file with the tokens [start, start + tokens) of a split."""

    path: Path
    start: int
    tokens: int
    dtype: str


@dataclass(frozen=True)
class WrittenShard:
    """A shard in the work folder."""

    entry: dict[str, Any]
    """Its description in Streaming's index.json, with a temporary file name."""


@dataclass(frozen=True)
class WriteShard(Job[WrittenShard]):
    """Rows [first, first + samples) of a plan -> one shard."""

    stage: ClassVar[str] = "shard"
    result_type: ClassVar[type[WrittenShard]] = WrittenShard

    spec: ShardSpec
    plan: Path
    pieces: list[TokenPiece]
    """Those that hold the shard's tokens, in order."""

    def _run(self) -> WrittenShard:
        rows = read_plan(self.plan, self.spec.first, self.spec.samples)
        tokens = np.concatenate([np.fromfile(piece.path, piece.dtype) for piece in self.pieces])
        offset = self.pieces[0].start
        self.data.parent.mkdir(parents=True, exist_ok=True)
        segments = (tokens[start - offset : start - offset + length] for start, length in rows.tolist())
        return WrittenShard(write_shard(segments, self.spec.encoding, self.data))
