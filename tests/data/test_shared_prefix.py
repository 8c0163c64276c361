"""Shared-memory prefixes and cache folders of concurrent runs and after a killed run."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from streaming.base.world import World

from elc_composer.common.errors import DataError
from elc_composer.data.streaming import shared_prefix
from elc_composer.data.streaming.shared_prefix import CacheFolders

OPENER = textwrap.dedent(
    """
    import sys, time
    from streaming.base.world import World
    from elc_composer.data.streaming.shared_prefix import CacheFolders, _claim_prefix
    folders = CacheFolders(sys.argv[2:])
    prefixes = [_claim_prefix([], [], World.detect())[0] for _ in range(int(sys.argv[1]))]
    print(*prefixes, flush=True)
    sys.stdin.read()
    """
)


def open_run(prefixes: int, *folders: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", OPENER, str(prefixes), *map(str, folders)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def said(run: subprocess.Popen[str]) -> list[str]:
    assert run.stdout is not None
    return run.stdout.readline().split()


@pytest.fixture(autouse=True)
def registry_of_this_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def left(prefix: str) -> list[str]:
    return sorted(path.name for path in Path("/dev/shm").glob(f"{prefix}_*"))


def test_runs_that_start_together_get_different_prefixes() -> None:
    runs = [open_run(40) for _ in range(2)]
    prefixes = [prefix for run in runs for prefix in said(run)]
    for run in runs:
        run.communicate()
    assert len(prefixes) == len(set(prefixes)) == 80


def test_after_a_killed_run_and_beside_a_living_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_prefix, "PATIENCE", 0.2)
    cache = tmp_path / "cache"
    killed, living = open_run(1, cache), open_run(1)
    (dead,), (alive,) = said(killed), said(living)
    with pytest.raises(DataError, match=rf"cache folder {cache} is in use by another run .*process {killed.pid}"):
        CacheFolders([str(cache)])
    # Python's resource tracker would remove the shared memory; killing a job kills the tracker as well.
    children = Path(f"/proc/{killed.pid}/task/{killed.pid}/children").read_text().split()
    for process in [*map(int, children), killed.pid]:
        os.kill(process, signal.SIGKILL)
    killed.wait()
    (tmp_path / f"{dead}_barrier_filelock").touch()
    assert left(dead)
    CacheFolders([str(cache)]).release()
    shared_prefix._claim_prefix([], [], World.detect())
    assert not left(dead)
    assert not (tmp_path / f"{dead}_barrier_filelock").exists()
    assert left(alive)
    living.communicate()


def test_no_folder_is_kept_if_one_of_several_is_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_prefix, "PATIENCE", 0.2)
    taken = CacheFolders([str(tmp_path / "b")])
    with pytest.raises(DataError):
        CacheFolders([str(tmp_path / "a"), str(tmp_path / "b")])
    CacheFolders([str(tmp_path / "a")]).release()
    taken.release()


def test_a_copy_in_another_process_holds_nothing(tmp_path: Path) -> None:
    folders = CacheFolders([str(tmp_path / "a")])
    copy = pickle.loads(pickle.dumps(folders))
    copy.release()
    with pytest.raises(DataError):
        CacheFolders([str(tmp_path / "a")])
    folders.release()
