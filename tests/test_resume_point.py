from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from elc_composer.checkpoints import resume
from elc_composer.checkpoints.resume import CheckpointsConfig, find_resume_point
from elc_composer.errors import ConfigError


def save(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"weight": torch.zeros(100)}, path)
    return path


def test_newest_whole_checkpoint_is_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for step in (9, 10, 100):
        newest = save(tmp_path / f"ba{step}-rank0.pt")
    (tmp_path / "latest-rank0.pt").symlink_to(newest)
    config = CheckpointsConfig(save_folder=str(tmp_path))
    assert find_resume_point(config) == resume.ResumePoint(str(newest), 100)
    newest.write_bytes(newest.read_bytes()[:300])
    point = find_resume_point(config)
    assert point is not None
    assert point.step == 10
    assert "ba100-rank0.pt is damaged" in caplog.text


def test_sharded_checkpoints_count_once_their_index_is_written(tmp_path: Path) -> None:
    for step in (5, 7):
        (tmp_path / f"ep0-ba{step}").mkdir()
    (tmp_path / "ep0-ba5" / ".metadata").touch()
    point = find_resume_point(CheckpointsConfig(save_folder=str(tmp_path)))
    assert point == resume.ResumePoint(str(tmp_path / "ep0-ba5"), 5)


def test_load_path_is_checked(tmp_path: Path) -> None:
    config = CheckpointsConfig(save_folder=str(tmp_path / "none"), load_path=str(tmp_path / "ba3-rank0.pt"))
    with pytest.raises(ConfigError, match="does not exist"):
        find_resume_point(config)
    (tmp_path / "ba3-rank0.pt").write_bytes(b"half")
    with pytest.raises(ConfigError, match="is damaged"):
        find_resume_point(config)
    save(tmp_path / "ba3-rank0.pt")
    assert find_resume_point(config) == resume.ResumePoint(str(tmp_path / "ba3-rank0.pt"), 3)


def test_another_run_of_a_longer_name_in_the_bucket_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = ["run/ba5-rank0.pt", "run_small/ba9000-rank0.pt", "run/old/ba7-rank0.pt", "run/ep0-ba6/.metadata"]

    class Store:
        def list_objects(self, prefix: str) -> list[str]:
            return [key for key in keys if key.startswith(prefix)]

    def store(uri: str) -> Any:
        return Store()

    monkeypatch.setattr(resume, "maybe_create_object_store_from_uri", store)
    point = find_resume_point(CheckpointsConfig(save_folder="s3://bucket/run"))
    assert point == resume.ResumePoint("s3://bucket/run/ep0-ba6", 6)
