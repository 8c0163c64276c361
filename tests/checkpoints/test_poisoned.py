"""A checkpoint that would run a command when it is unpickled: it is refused, and the command does not run."""

from __future__ import annotations

import datetime
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException

from elc_composer.checkpoints.allowed_classes import loading_without_code
from elc_composer.checkpoints.integrity import damage
from elc_composer.checkpoints.resume import CheckpointsConfig, find_resume_point
from elc_composer.common.errors import ConfigError
from tests.checkpoints.damage import save


class Poison:
    """Creates a file when it is unpickled."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.made),)


def state() -> dict[str, Any]:
    """What a Composer checkpoint holds besides tensors."""
    return {
        "weight": torch.arange(10.0),
        "random": np.random.RandomState(0).get_state(),
        "loss": np.float64(1.5),
        "flags": np.array([True]),
        "elapsed": datetime.timedelta(seconds=5),
        "version": torch.__version__,
    }


def test_the_state_of_a_run_is_whole_and_loads(tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "ba1-rank0.pt")
    assert damage(tmp_path / "ba1-rank0.pt") is None
    with loading_without_code():
        loaded = torch.load(tmp_path / "ba1-rank0.pt", weights_only=False)
    assert loaded["elapsed"] == datetime.timedelta(seconds=5)
    assert (loaded["random"][1] == state()["random"][1]).all()


def test_a_poisoned_checkpoint_is_passed_over(tmp_path: Path) -> None:
    older = save(tmp_path / "ba5-rank0.pt")
    torch.save({**state(), "more": Poison(tmp_path / "made")}, tmp_path / "ba7-rank0.pt")
    point = find_resume_point(CheckpointsConfig(save_folder=str(tmp_path)))
    assert point is not None
    assert point.path == str(older)
    (reason,) = point.damaged
    assert reason.endswith("it holds more than a run's state (posix.mkdir); none of its code was executed")
    with pytest.raises(ConfigError, match="none of its code was executed"):
        find_resume_point(CheckpointsConfig(save_folder=None, load_path=str(tmp_path / "ba7-rank0.pt")))
    assert not (tmp_path / "made").exists()


def test_a_poisoned_part_of_a_sharded_checkpoint_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "ep0-ba2"
    content = {"weight": torch.ones(3), "more": Poison(tmp_path / "made")}
    dcp.save(content, storage_writer=dcp.FileSystemWriter(folder), no_dist=True)
    assert "posix.mkdir" in str(damage(folder))
    with loading_without_code(), pytest.raises(CheckpointException, match=r"unsupported GLOBAL posix\.mkdir"):
        dcp.load(content, storage_reader=dcp.FileSystemReader(folder), no_dist=True)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("variable", ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_WEIGHTS_ONLY_LOAD"])
def test_a_caller_that_asks_for_unpickling_is_overruled(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Composer asks for it. The check before could miss a file that is replaced in between."""
    torch.save(Poison(tmp_path / "made"), tmp_path / "file.pt")
    monkeypatch.setenv(variable, "1")
    with loading_without_code(), pytest.raises(Exception, match=r"[Ww]eights"):
        torch.load(tmp_path / "file.pt", weights_only=False)
    assert os.environ[variable] == "1"
    assert not (tmp_path / "made").exists()
