"""CheckpointWriter: atomic writes, deletion of old checkpoints, full disks."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from composer import State, Trainer

from elc_composer.checkpoints import save
from elc_composer.checkpoints.integrity import damage
from elc_composer.checkpoints.resume import CheckpointsConfig, find_resume_point
from elc_composer.checkpoints.save import CheckpointWriter, publish
from elc_composer.common.errors import DataError
from tests.callbacks.toys import ToyElc, trainer
from tests.checkpoints.damage import flip, save_sharded


def run(writer: CheckpointWriter, steps: int = 6, **settings: Any) -> Trainer:
    built = trainer(ToyElc(), [writer], steps=steps, **settings)
    built.fit()
    built.close()
    return built


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_saved_at_every_interval_and_at_the_end_and_loaded_by_composer(tmp_path: Path) -> None:
    noted: list[int] = []
    whole = run(CheckpointWriter(tmp_path, "2ba", note=lambda step, path: noted.append(step)), steps=5)
    assert names(tmp_path) == {"ba2-rank0.pt", "ba4-rank0.pt", "ba5-rank0.pt"}
    assert noted == [2, 4, 5]
    resumed = run(CheckpointWriter(tmp_path / "new" / "run", "9ba"), steps=5, load_path=str(tmp_path / "ba2-rank0.pt"))
    for one, two in zip(whole.state.model.parameters(), resumed.state.model.parameters(), strict=True):
        assert torch.equal(one, two)


def test_newest_checkpoints_are_kept_including_earlier_processes(tmp_path: Path) -> None:
    for step in (1, 2, 900):
        (tmp_path / f"ba{step}-rank0.pt").write_bytes(b"earlier")
    (tmp_path / "notes.txt").touch()
    run(CheckpointWriter(tmp_path, "2ba", keep=2))
    # A later step is not this run's past: whoever went back to an earlier checkpoint may want it still.
    assert names(tmp_path) == {"ba4-rank0.pt", "ba6-rank0.pt", "ba900-rank0.pt", "notes.txt"}


def test_checkpoint_gets_its_name_only_when_it_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[str]] = []
    synced: list[str] = []
    replace, sync = os.replace, os.fsync

    def watch(source: Path, target: Path) -> None:
        if str(target).startswith(str(tmp_path)):
            seen.append(names(tmp_path))
            assert synced[-1].endswith(source.name), "renamed before its bytes were on the disk"
        replace(source, target)

    monkeypatch.setattr(os, "replace", watch)
    monkeypatch.setattr(
        os, "fsync", lambda handle: (synced.append(os.readlink(f"/proc/self/fd/{handle}")), sync(handle))
    )
    run(CheckpointWriter(tmp_path, "3ba"))
    assert seen == [{".saving"}, {".saving", "ba3-rank0.pt"}]
    assert [Path(name).name for name in synced] == ["ba3-rank0.pt", tmp_path.name, "ba6-rank0.pt", tmp_path.name]


def test_full_disk_gives_one_line_and_keeps_the_previous_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = torch.save

    def full(content: Any, file: Any, **options: Any) -> None:
        if "ba4" in str(getattr(file, "name", "")):
            file.write(b"half")
            raise RuntimeError("[enforce fail at inline_container.cc:603]") from OSError(errno.ENOSPC, "No space left")
        written(content, file, **options)

    monkeypatch.setattr(save.torch, "save", full)
    with pytest.raises(DataError, match=r"ba4-rank0.pt cannot be written: No space left; free .* after step 2"):
        run(CheckpointWriter(tmp_path, "2ba"))
    assert names(tmp_path) == {"ba2-rank0.pt"}
    point = find_resume_point(CheckpointsConfig(save_folder=str(tmp_path)))
    assert point is not None
    assert point.step == 2


def test_full_device_gives_one_line(tmp_path: Path) -> None:
    """/dev/full takes no byte."""
    half = tmp_path / ".saving"

    def fill_disk(state: State) -> None:
        half.mkdir()
        (half / "ba2-rank0.pt").symlink_to("/dev/full")

    with pytest.raises(DataError, match=r"No space left on device; free disk space .* starts at step 0"):
        run(CheckpointWriter(tmp_path, "2ba", checks=[fill_disk]), steps=2)
    assert not names(tmp_path)


def test_partial_files_of_a_killed_process_are_deleted(tmp_path: Path) -> None:
    (tmp_path / ".saving").mkdir()
    (tmp_path / ".saving" / "ba2-rank0.pt").write_bytes(b"half")
    run(CheckpointWriter(tmp_path, "9ba"), steps=1)
    assert names(tmp_path) == {"ba1-rank0.pt"}


def test_folder_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file/checkpoints cannot be written: Not a directory"):
        run(CheckpointWriter(tmp_path / "file" / "checkpoints", "2ba"))


def test_one_checkpoint_for_an_interval_that_ends_with_the_epoch_and_the_run(tmp_path: Path) -> None:
    noted: list[int] = []
    run(CheckpointWriter(tmp_path, "1ep", note=lambda step, path: noted.append(step)), steps=3)
    assert noted == [3]


def test_sharded_checkpoint_gets_the_checksum_of_its_index(tmp_path: Path) -> None:
    half = save_sharded(tmp_path / ".saving" / "ep0-ba2")
    assert CheckpointWriter(tmp_path, "9ba")._publish(tmp_path / "ep0-ba2") is None
    assert not half.exists()
    assert damage(tmp_path / "ep0-ba2") is None
    flip(tmp_path / "ep0-ba2" / ".metadata", 30)
    assert "does not match its checksum" in str(damage(tmp_path / "ep0-ba2"))


def test_sharded_checkpoint_replaces_one_of_its_name(tmp_path: Path) -> None:
    save_sharded(tmp_path / "ep0-ba2")
    (tmp_path / "ep0-ba2" / "old").touch()
    publish(save_sharded(tmp_path / "new"), tmp_path / "ep0-ba2")
    assert names(tmp_path) == {"ep0-ba2"}
    assert not (tmp_path / "ep0-ba2" / "old").exists()


class UploadsAtTheEnd:
    """A mirror whose uploads end only in `finish`, some of them with a failure."""

    def __init__(self, reasons: dict[str, str]) -> None:
        self.submitted: list[Path] = []
        self.finished = False
        self.reasons = reasons

    def submit(self, path: Path) -> None:
        self.submitted.append(path)

    def pending(self) -> set[Path]:
        return set(self.submitted)

    def finish(self) -> dict[Path, str]:
        self.finished = True
        return {path: self.reasons[path.name] for path in self.submitted if path.name in self.reasons}


def test_the_end_of_a_run_waits_for_uploads_and_names_those_that_failed(tmp_path: Path) -> None:
    mirror = UploadsAtTheEnd({"ba4-rank0.pt": "AccessDenied"})
    writer = CheckpointWriter(tmp_path, "2ba", keep=1, mirror=mirror)  # type: ignore[arg-type]
    run(writer, steps=4)
    assert [path.name for path in mirror.submitted] == ["ba2-rank0.pt", "ba4-rank0.pt"]
    assert names(tmp_path) == {"ba2-rank0.pt", "ba4-rank0.pt"}, "a checkpoint that is not uploaded yet stays"
    with pytest.raises(DataError, match=r"ba4-rank0\.pt .*AccessDenied"):
        writer.finish()
    mirror.reasons, mirror.finished = {}, False
    writer.finish()
    assert mirror.finished
    CheckpointWriter(tmp_path, "2ba").finish()
