"""Leftovers of a killed run neither block nor change the next run, which leaves running ones alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.data.prepared import write_split

JOB = """
import json, sys, time
from elc_composer.data import DataConfig, MaskingConfig, StreamConfig, build_train_loader
from tests.data.prepared import TOKENS
remote, cache, pause = sys.argv[1], sys.argv[2], float(sys.argv[3])
data = DataConfig(streams=[StreamConfig(remote=remote, local=cache)], num_workers=2, download_retry=1)
loader = build_train_loader(data, MaskingConfig(), TOKENS, seq_length=16, device_batch_size=8, seed=1).dataloader
for epoch in range(2):
    for batch in loader:
        print(json.dumps([batch["sample_ids"].tolist(), batch["input_ids"].tolist()]), flush=True)
        time.sleep(pause)
loader.close()
"""


def start(remote: Path, cache: Path, pause: float = 0.0) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", JOB, str(remote), str(cache), str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def batches(process: subprocess.Popen[str]) -> list[Any]:
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, err[-3000:]
    return [json.loads(line) for line in out.splitlines()]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="looks into /dev/shm")
def test_leftovers_of_killed_runs_are_removed_and_running_ones_are_left_alone(tmp_path: Path) -> None:
    remote = tmp_path / "remote"
    write_split(remote, 200)
    undisturbed = batches(start(remote, tmp_path / "calm"))
    before = set(os.listdir("/dev/shm"))

    living = start(remote, tmp_path / "other", pause=0.3)
    assert living.stdout is not None
    first = json.loads(living.stdout.readline())
    killed = start(remote, tmp_path / "cache", pause=0.3)
    assert killed.stdout is not None
    for _ in range(3):
        killed.stdout.readline()
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    left = set(os.listdir("/dev/shm")) - before
    assert left

    assert batches(start(remote, tmp_path / "cache")) == undisturbed
    assert [first, *batches(living)] == undisturbed
    # The workers of the killed run end within five seconds; the next run after that removes the leftovers.
    time.sleep(6)
    assert batches(start(remote, tmp_path / "cache")) == undisturbed
    assert not (set(os.listdir("/dev/shm")) & left)
