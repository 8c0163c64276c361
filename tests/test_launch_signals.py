"""Exit codes of launched ranks after SIGTERM and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.multirank.launch import free_port
from tests.runs import prepare_toy, tiny_overrides

RANK = """
import os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
pathlib.Path(sys.argv[1], os.environ["RANK"]).touch()
time.sleep(120)
"""


def started(command: list[str]) -> subprocess.Popen[str]:
    """In a process group of its own, as a terminal starts it."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    environment["MASTER_PORT"] = str(free_port())
    return subprocess.Popen(
        command, env=environment, start_new_session=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def signalled(process: subprocess.Popen[str], ready: list[Path], number: signal.Signals, everyone: bool) -> str:
    """Send a signal to the command, or to all of its processes, once these files exist; returns what it printed."""
    try:
        while not all(file.exists() for file in ready):
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.1)
        (os.killpg if everyone else os.kill)(process.pid, number)
        return process.communicate(timeout=200)[0]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.multirank
@pytest.mark.parametrize(
    ("number", "everyone", "code"),
    [(signal.SIGTERM, False, 75), (signal.SIGINT, True, 130), (signal.SIGINT, False, 130)],
    ids=["scheduler", "terminal", "kill_int"],
)
def test_the_launcher_returns_the_code_of_what_ended_the_run(
    number: signal.Signals, everyone: bool, code: int, tmp_path: Path
) -> None:
    (tmp_path / "rank.py").write_text(RANK)
    process = started(
        [sys.executable, "-m", "elc_composer.launch", "-n", "2", str(tmp_path / "rank.py"), str(tmp_path)]
    )
    output = signalled(process, [tmp_path / "0", tmp_path / "1"], number, everyone)
    assert process.returncode == code, output
    assert "Traceback" not in output


@pytest.mark.slow
@pytest.mark.multirank
def test_elc_train_ends_with_the_documented_codes(tmp_path: Path) -> None:
    prepared = prepare_toy(tmp_path)
    entries = json.loads((prepared / "data" / "manifest.json").read_text())["tokenizer"]["vocab_size"]
    command = [sys.executable, "-m", "elc_composer.launch_training", "yamls:quickstart"]
    for ranks in (1, 2):
        for number, code in ((signal.SIGTERM, 75), (signal.SIGINT, 130)):
            run = tmp_path / f"{number.name}_{ranks}"
            overrides = tiny_overrides(prepared, run, entries, max_steps=100_000, evaluators__eval_interval="100000ba")
            process = started([*command, *overrides, "-n", str(ranks)])
            output = signalled(process, [run / "metrics.jsonl"], number, number == signal.SIGINT)
            assert process.returncode == code, output
            assert "Traceback" not in output, output
