"""Runs of two nodes, each with one rank: two processes of this machine that are told that they are two machines."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.disturbed import CONFIG, QUIET, SHARDED, fault
from tests.faults.s3 import CREDENTIALS, local_s3
from tests.runs import prepare_toy, tiny_overrides
from tests.warm import Ended, Start, sample_ids, warm

pytestmark = pytest.mark.multirank


@pytest.fixture(scope="module")
def start() -> Iterator[Start]:
    with warm() as started:
        yield started


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_toy(tmp_path_factory.mktemp("toy"))


class Nodes:
    """Starts runs of two nodes; `folder` may hold `{node}`, for a disk of each."""

    def __init__(self, start: Start, prepared: Path) -> None:
        self.start = start
        self.prepared = prepared
        self.vocab_size = json.loads((prepared / "data" / "manifest.json").read_text())["tokenizer"]["vocab_size"]

    def __call__(self, folder: str, *faults: dict[str, Any], plan: Any = None, **more: Any) -> Ended:
        overrides = tiny_overrides(self.prepared, Path(folder), self.vocab_size, **{**QUIET, **more})
        arguments = [str(CONFIG), *overrides]
        ended: Ended = self.start({"faults": faults, **(plan or {})}, arguments, 2, nodes=True)
        assert not ended.hung, ended.output[-3000:]
        return ended


@pytest.fixture
def nodes(start: Start, prepared: Path) -> Nodes:
    return Nodes(start, prepared)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_nodes_with_disks_of_their_own_save_to_s3_and_go_on_from_there(nodes: Nodes, tmp_path: Path) -> None:
    with local_s3() as s3:
        samples = tmp_path / "samples"
        plan = {"environment": {**CREDENTIALS, "S3_ENDPOINT_URL": s3.url}, "record": str(samples)}
        address = s3.upload(tmp_path / "nothing", "runs/two")
        more = {"checkpoints__save_folder": address, "checkpoints__keep": 2}
        own = str(tmp_path / "node{node}" / "run")
        ended = nodes(own, fault(7, "batch_end", "SIGTERM", rank=1), plan=plan, **more)
        assert ended.codes == [75, 75], ended.output[-3000:]
        assert {key.rpartition("/")[2] for key in s3.keys("runs/two")} == {"ba6-rank0.pt", "ba7-rank0.pt"}
        for node in (0, 1):
            shutil.rmtree(tmp_path / f"node{node}")
        ended = nodes(own, plan=plan, **more)
        assert ended.codes == [0, 0], ended.output[-3000:]
        assert {key.rpartition("/")[2] for key in s3.keys("runs/two")} == {"ba8-rank0.pt", "ba12-rank0.pt"}
    assert sorted(sample_ids(samples)) == list(range(1, 13))


def test_nodes_with_a_common_disk_write_one_sharded_checkpoint(nodes: Nodes, tmp_path: Path) -> None:
    # As in tests/training/test_resume.py: FSDP2 over gloo adds gradients up, and the config check is told of a GPU.
    plan = {"device": "gpu", "divide_loss": 2}
    folder = tmp_path / "run"
    ended = nodes(str(folder), fault(7, "batch_end", "SIGTERM", rank=1), plan=plan, **SHARDED, checkpoints__keep=2)
    assert ended.codes == [75, 75], ended.output[-3000:]
    assert names(folder / "checkpoints") == {"ep0-ba6", "ep1-ba7"}
    ended = nodes(str(folder), plan=plan, **SHARDED, checkpoints__keep=2)
    assert ended.codes == [0, 0], ended.output[-3000:]
    assert names(folder / "checkpoints") == {"ep1-ba8", "ep1-ba12"}
