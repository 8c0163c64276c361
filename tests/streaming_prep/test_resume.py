"""Interrupted builds resume from their finished jobs and give the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from elc_composer.common.errors import DataError
from streaming_prep import stage_runner
from streaming_prep.jobs.base import Job
from streaming_prep.screen import Screen
from tests.conftest import ROOT
from tests.streaming_prep.corpora import build_small, contents, make_corpus


class Recorder(Screen):
    def __init__(self) -> None:
        super().__init__(silent=True)
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


class Interrupted(Exception):
    pass


def interrupt_before(stage: str, monkeypatch: pytest.MonkeyPatch, corpus: Path, out: Path) -> None:
    really = stage_runner.run_jobs

    def run_jobs(todo: list[Job[Any]], *rest: object) -> list[Any]:
        if todo[0].stage == stage:
            raise Interrupted
        return really(todo, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(stage_runner, "run_jobs", run_jobs)
        with pytest.raises(Interrupted):
            build_small(corpus, out)


def count_executed(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    counts: dict[str, int] = {}
    really = Job.execute

    def execute(job: Job[Any]) -> Any:
        counts[job.stage] = counts.get(job.stage, 0) + 1
        return really(job)

    monkeypatch.setattr(Job, "execute", execute)
    return counts


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return make_corpus(tmp_path / "corpus", lines=80)


def test_finished_jobs_are_not_repeated(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_before("plan", monkeypatch, corpus, tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()
    executed = count_executed(monkeypatch)
    screen = Recorder()
    build_small(corpus, tmp_path / "out", screen=screen)
    assert set(executed) == {"plan", "report", "shard"}
    assert "resuming from the finished jobs of an earlier run" in screen.lines
    build_small(corpus, tmp_path / "undisturbed")
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def test_changed_settings_are_announced_and_repeat_only_the_jobs_that_depend_on_them(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_before("plan", monkeypatch, corpus, tmp_path / "out")
    executed = count_executed(monkeypatch)
    screen = Recorder()
    build_small(corpus, tmp_path / "out", vocab_size=100, screen=screen)
    assert set(executed) == {"tokenizer", "tokenize", "plan", "report", "shard"}
    announced = [line for line in screen.lines if "changed since the last run" in line]
    assert len(announced) == 1
    assert announced[0].startswith("settings (vocab_size) changed")
    build_small(corpus, tmp_path / "undisturbed", vocab_size=100)
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def test_changed_sources_are_announced_and_unchanged_chunks_kept(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_before("plan", monkeypatch, corpus, tmp_path / "out")
    with open(corpus / "homemade.dev", "a") as file:
        file.write("One more sentence.\n")
    executed = count_executed(monkeypatch)
    screen = Recorder()
    build_small(corpus, tmp_path / "out", screen=screen)
    assert executed["clean"] == 1
    assert any(line.startswith("sources changed since the last run") for line in screen.lines)
    build_small(corpus, tmp_path / "undisturbed")
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def test_the_work_folder_is_removed_at_the_end_unless_kept(corpus: Path, tmp_path: Path) -> None:
    build_small(corpus, tmp_path / "out")
    assert not (tmp_path / "out" / ".work").exists()
    build_small(corpus, tmp_path / "other", work=tmp_path / "work", keep_work=True)
    assert (tmp_path / "work" / "clean").is_dir()
    assert contents(tmp_path / "other") == contents(tmp_path / "out")


def killed_builds(corpus: Path, folder: Path, kills: int, seed: int) -> None:
    command = [sys.executable, "-m", "tests.streaming_prep.jobs.kill_job"]
    job = subprocess.run(
        [*command, str(corpus), str(folder / "out"), str(kills), str(seed)], cwd=ROOT, capture_output=True, text=True
    )
    assert job.returncode == 0, job.stderr
    expected = contents(folder / "undisturbed")
    for number in range(int(job.stdout.split()[-1])):
        assert contents(folder / f"finished-{number + 1}") == expected


def test_the_output_is_the_same_after_three_kills(corpus: Path, tmp_path: Path) -> None:
    killed_builds(corpus, tmp_path, 3, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_the_output_is_the_same_after_twenty_kills(tmp_path: Path, seed: int) -> None:
    killed_builds(make_corpus(tmp_path / "corpus", lines=600), tmp_path, 20, seed)


@pytest.mark.slow
def test_killing_the_command_ends_its_workers_and_the_command_resumes(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "corpus", lines=3000)
    settings = ["--vocab-size", "200", "--min-frequency", "2", "--seq-length", "16", "48", "--chunk-bytes", "4000"]
    command = [sys.executable, "-m", "streaming_prep", "build", "--corpus", str(corpus), *settings, "--workers", "2"]
    subprocess.run([*command, "--out", str(tmp_path / "undisturbed")], cwd=ROOT, check=True, capture_output=True)
    for seconds in (4.0, 6.0, 8.0):
        job = subprocess.Popen([*command, "--out", str(tmp_path / "out")], cwd=ROOT, stdout=subprocess.DEVNULL)
        try:
            job.wait(seconds)
        except subprocess.TimeoutExpired:
            workers = children(job.pid)
            os.kill(job.pid, signal.SIGKILL)
            job.wait()
            wait_until_gone(workers)
    subprocess.run([*command, "--out", str(tmp_path / "out")], cwd=ROOT, check=True, capture_output=True)
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def children(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    return [int(word) for word in listed.split()]


def wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, "a worker outlived its build"
        time.sleep(0.2)


@pytest.mark.parametrize("stage", ["clean", "tokenize", "plan"])
def test_lost_and_truncated_results_are_made_again(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    interrupt_before("shard", monkeypatch, corpus, tmp_path / "out")
    results = sorted((tmp_path / "out" / ".work" / stage).rglob("*"))
    lost, cut, *_ = [path for path in results if path.is_file() and path.suffix != ".json"]
    lost.unlink()
    cut.write_bytes(cut.read_bytes()[:-1])
    build_small(corpus, tmp_path / "out")
    build_small(corpus, tmp_path / "undisturbed")
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def test_a_damaged_shard_in_the_work_folder_is_found_and_made_again(corpus: Path, tmp_path: Path) -> None:
    build_small(corpus, tmp_path / "out", keep_work=True, work=tmp_path / "work")
    shard = tmp_path / "out" / "seq_16" / "train" / "shard.00000.mds.zstd"
    data = bytearray(shard.read_bytes())
    data[70] ^= 1
    shard.write_bytes(data)  # changes the work folder's file too: both are hard links to one file
    with pytest.raises(DataError, match="was damaged after it was written; rerun the same command"):
        build_small(corpus, tmp_path / "out", work=tmp_path / "work")
    build_small(corpus, tmp_path / "out", work=tmp_path / "work")
    build_small(corpus, tmp_path / "undisturbed")
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")
