"""Two ranks share an epoch: the same batches as one rank's, no sample twice, also after resumption on one rank."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.data.prepared import write_split
from tests.multirank.launch import launch

JOB = Path(__file__).parent / "jobs" / "data_ranks_job.py"
GLOBAL_BATCH = 8
SAMPLES = 86
Rows = list[list[int]]


def global_batches(root: Path, out: Path, ranks: int, workers: int, *state: object) -> list[Rows]:
    """The rows of every batch, sorted: which rank holds a row of a batch is free."""
    out.mkdir(exist_ok=True)
    launch(JOB, root, out, GLOBAL_BATCH // ranks, workers, *state, n=ranks)
    of_rank = [json.loads((out / f"rank{rank}.json").read_text()) for rank in range(ranks)]
    return [sorted(row for part in parts for row in part) for parts in zip(*of_rank, strict=True)]


@pytest.mark.multirank
def test_two_ranks_see_one_ranks_batches_and_resume_on_any_number(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_split(root, SAMPLES)
    one = global_batches(root, tmp_path / "one", 1, 0)
    two = global_batches(root, tmp_path / "two", 2, 1)
    assert two == one
    per_epoch = SAMPLES // GLOBAL_BATCH
    assert len(one) == 2 * per_epoch
    for epoch in (one[:per_epoch], one[per_epoch:]):
        ids = [row[0] for batch in epoch for row in batch]
        assert len(ids) == len(set(ids)) == per_epoch * GLOBAL_BATCH

    stop = per_epoch + 3
    assert global_batches(root, tmp_path / "elastic", 2, 1, stop) == one[:stop]
    rest = global_batches(root, tmp_path / "elastic", 1, 2, "resume")
    left = 2 * per_epoch - stop
    assert rest[:left] == one[stop:]
