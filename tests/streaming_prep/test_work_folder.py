"""The work folder: locking, cleaning up after a killed build, and removal that keeps other files."""

from __future__ import annotations

import fcntl
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import pytest

from elc_composer.common.errors import ConfigError
from streaming_prep.work_folder import alone_in, remove_work, work_folder


def test_one_build_at_a_time(tmp_path: Path) -> None:
    busy = pytest.raises(ConfigError, match="another build uses")
    with work_folder(tmp_path / "work"), busy, work_folder(tmp_path / "work"):
        pass
    with work_folder(tmp_path / "work"):
        pass


def test_two_builds_with_different_work_folders_cannot_write_to_one_place(tmp_path: Path) -> None:
    busy = pytest.raises(ConfigError, match="another build uses")
    with alone_in(tmp_path), busy, alone_in(tmp_path):
        pass
    with alone_in(tmp_path):
        pass


def test_temporary_files_of_a_killed_build_are_removed(tmp_path: Path) -> None:
    work = tmp_path / "work"
    for name in ("clean/ab/.abc.0123abcd.tmp", "shard/cd/.cde.0123abcd.tmp/shard.00000.mds", ".inputs.json.01ab.tmp"):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).touch()
    with work_folder(work):
        assert not list(work.rglob("*.tmp"))


def test_removal_keeps_files_of_others(tmp_path: Path) -> None:
    work = tmp_path / "work"
    with work_folder(work):
        (work / "clean").mkdir()
        (work / "inputs.json").touch()
        (work / "theirs").touch()
        remove_work(work)
    assert [path.name for path in work.iterdir()] == ["theirs"]
    (work / "theirs").unlink()
    with work_folder(work):
        remove_work(work)
    assert not work.exists()


def test_a_build_that_starts_while_another_ends_keeps_its_folder(tmp_path: Path) -> None:
    work = tmp_path / "work"
    with work_folder(work):
        remove_work(work)
        with work_folder(work):  # the folder is a new one, and so is its lock
            (work / "clean").mkdir()
    assert (work / "clean").is_dir()


@pytest.mark.parametrize("third_build", [False, True])
def test_a_folder_that_is_removed_between_opening_and_locking_is_locked_anew(
    third_build: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The previous build removes the folder just then, and a third one may have made it again."""
    work = tmp_path / "work"
    lock, others = fcntl.flock, ExitStack()

    def removed_before(file: IO[str], operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        remove_work(work)
        if third_build:
            others.enter_context(work_folder(work))
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", removed_before)
    busy = pytest.raises(ConfigError, match="another build uses")
    with others:
        if third_build:
            with busy, work_folder(work):
                pass
        else:
            with work_folder(work), busy, work_folder(work):
                pass
