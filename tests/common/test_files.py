"""Files written atomically are complete or unchanged."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from elc_composer.common.files import atomic_file, place, write_json, write_text
from elc_composer.common.json_files import read_json


def test_a_file_is_complete_or_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.yaml"
    write_text(path, "before")

    def power_failure(_: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", power_failure)
        with pytest.raises(KeyboardInterrupt):
            write_text(path, "after")
    assert path.read_text() == "before"
    write_text(path, "after")
    assert path.read_text() == "after"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_reported_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a" / "file"
    with pytest.raises(OSError, match="No space left") as refused, atomic_file(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert refused.value.filename == str(path)
    assert list(path.parent.iterdir()) == []


def test_json_reads_back(tmp_path: Path) -> None:
    value = {"b": [1, 2.5, None, True], "a": "é\n\u2028"}
    write_json(tmp_path / "value.json", value)
    assert read_json(tmp_path / "value.json") == value


def test_place_replaces_the_target(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"new")
    (tmp_path / "target").write_bytes(b"old")
    place(tmp_path / "source", tmp_path / "target")
    place(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"new"
    assert len(list(tmp_path.iterdir())) == 2
