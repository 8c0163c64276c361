"""Exit of a process that does not close its loader: it ends, and its workers with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.data.prepared import write_split

JOB = """
import multiprocessing, sys, time
from elc_composer.data import DataConfig, MaskingConfig, StreamConfig, build_train_loader
from tests.data.prepared import TOKENS

class Hanging:
    def __init__(self, collate):
        self.collate, self.calls = collate, 0
    def __call__(self, samples):
        self.calls += 1
        if self.calls > 1:
            time.sleep(600)
        return self.collate(samples)

root, workers, ending = sys.argv[1], int(sys.argv[2]), sys.argv[3]
config = DataConfig(streams=[StreamConfig(local=root)], num_workers=workers)
loader = build_train_loader(config, MaskingConfig(), TOKENS, seq_length=16, device_batch_size=8, seed=1).dataloader
if ending == "hang":
    loader.collate_fn = Hanging(loader.collate_fn)
batches = iter(loader)
next(batches)
print(*(process.pid for process in multiprocessing.active_children()), flush=True)
if ending == "raise":
    raise RuntimeError("the script's own")
if ending == "wait":
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("prepared")
    write_split(root, 83)
    return root


def temporary_files(folder: Path) -> list[str]:
    """What the process left, but for the registry of shared memory names and empty folders of ended workers."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith(("elc_composer-", "pymp-")))


def start(root: Path, short_folder: Path, workers: int, ending: str) -> tuple[subprocess.Popen[str], list[int]]:
    """A process that has taken one batch, in a process group of its own, and the ids of its workers."""
    process = subprocess.Popen(
        [sys.executable, "-c", JOB, str(root), str(workers), ending],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TMPDIR": str(short_folder)},
    )
    assert process.stdout is not None
    return process, [int(pid) for pid in process.stdout.readline().split()]


def outcome(process: subprocess.Popen[str], seconds: float) -> tuple[int, str]:
    """Exit code and stderr; what still runs after that time is killed and fails the test."""
    try:
        _, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        pytest.fail(f"the process did not end within {seconds} seconds")
    return process.returncode, err


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(("workers", "ending", "code"), [(0, "return", 0), (2, "return", 0), (1, "raise", 1)])
def test_a_script_that_ends_without_close_exits(
    prepared: Path, short_folder: Path, workers: int, ending: str, code: int
) -> None:
    process, pids = start(prepared, short_folder, workers, ending)
    assert len(pids) == workers
    found, err = outcome(process, 30)
    assert found == code
    assert not [pid for pid in pids if alive(pid)]
    assert temporary_files(short_folder) == []
    errors = [line for line in err.splitlines() if "Error" in line or "ignored" in line]
    assert errors == (["RuntimeError: the script's own"] if ending == "raise" else [])


@pytest.mark.parametrize("receiver", ["process", "group"])
def test_ctrl_c_ends_the_process_and_its_workers(prepared: Path, short_folder: Path, receiver: str) -> None:
    """A terminal sends it to the whole group, `kill -INT` to one process."""
    process, pids = start(prepared, short_folder, 1, "wait")
    (os.killpg if receiver == "group" else os.kill)(process.pid, signal.SIGINT)
    assert outcome(process, 30)[0] in (-signal.SIGINT, 128 + signal.SIGINT)
    assert not [pid for pid in pids if alive(pid)]
    assert temporary_files(short_folder) == []


def test_sigterm_ends_the_process_but_no_worker_by_itself(prepared: Path, short_folder: Path) -> None:
    """A scheduler's notice of preemption to all processes of a job must not cost the current batch."""
    process, pids = start(prepared, short_folder, 1, "wait")
    os.kill(pids[0], signal.SIGTERM)
    time.sleep(0.5)
    assert alive(pids[0])
    os.killpg(process.pid, signal.SIGTERM)
    assert outcome(process, 30)[0] == 128 + signal.SIGTERM
    assert not [pid for pid in pids if alive(pid)]
    assert temporary_files(short_folder) == []


def test_a_busy_worker_ends(prepared: Path, short_folder: Path) -> None:
    """torch gives a busy worker five seconds and then sends SIGTERM, which it must obey."""
    process, pids = start(prepared, short_folder, 1, "hang")
    assert outcome(process, 40)[0] == 0
    assert not [pid for pid in pids if alive(pid)]
    assert temporary_files(short_folder) == []
