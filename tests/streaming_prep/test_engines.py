"""Engines: equal results everywhere, errors in one line, and killed workers."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import sys
import threading
import time
import types
from pathlib import Path
from typing import Any

import pytest

from elc_composer.common.errors import ConfigError, DataError
from streaming_prep.engines import open_engine
from tests.streaming_prep.corpora import build_small, contents, make_corpus


def square(number: int) -> int:
    return number * number


def fail_on_three(number: int) -> int:
    if number == 3:
        raise DataError("three.txt:3: not three")
    return number


def die(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_with_the_index_of_their_item(workers: int) -> None:
    with open_engine("local", workers) as engine:
        assert dict(engine(square, range(20))) == {number: number * number for number in range(20)}


def test_an_error_keeps_its_type_and_message_across_processes() -> None:
    with pytest.raises(DataError, match=r"three\.txt:3"), open_engine("local", 2) as engine:
        list(engine(fail_on_three, range(6)))


def test_a_killed_worker_gives_a_one_line_error() -> None:
    killed = pytest.raises(DataError, match=r"a worker process was killed.*rerun the same command to resume")
    with killed, open_engine("local", 2) as engine:
        list(engine(die, range(4)))


def test_unknown_engines_are_refused() -> None:
    with pytest.raises(ConfigError, match="'spark'"), open_engine("spark", 1):
        pass


def test_a_missing_ray_package_is_named_with_the_command_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'elc-composer\[ray\]'"), open_engine("ray", 2):
        pass


def test_a_ray_address_without_a_listener_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = types.ModuleType("ray")
    ray.is_initialized = lambda: False  # type: ignore[attr-defined]
    ray.init = lambda **_: pytest.fail("Ray would try for minutes")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", ray)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(ConfigError, match=r"no Ray cluster answers at 127\.0\.0\.1:\d+ "), open_engine("ray", 2):
            pass


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the package ray is not installed")
def test_a_ray_cluster_writes_the_same_bytes_after_a_killed_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    corpus = make_corpus(tmp_path / "corpus", lines=1500)
    build_small(corpus, tmp_path / "local")
    monkeypatch.setattr("streaming_prep.outputs._TOKENS_WORTH_WORKERS", 0)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        killer = WorkerKiller(tmp_path / "out" / ".work" / "clean")
        killer.start()
        build_small(corpus, tmp_path / "out", engine="ray", workers=2)
        killer.join(60)
    finally:
        ray.shutdown()
    assert killer.killed is not None, "the build was over before a worker could be killed"
    assert contents(tmp_path / "out") == contents(tmp_path / "local")


class WorkerKiller(threading.Thread):
    """Kills one of Ray's workers as soon as the first jobs are done."""

    def __init__(self, results: Path) -> None:
        super().__init__(daemon=True)
        self.results = results
        self.killed: int | None = None

    def run(self) -> None:
        import psutil

        deadline = time.monotonic() + 120
        while self.killed is None and time.monotonic() < deadline:
            if any(self.results.rglob("*.json")):
                for process in psutil.Process().children(recursive=True):
                    if self.killed is None and is_busy(process):
                        process.kill()
                        self.killed = process.pid
            time.sleep(0.005)


def is_busy(process: Any) -> bool:
    import psutil

    try:
        # Ray names a worker after the task it runs; others called ray::... are agents, and the node dies with them.
        title = " ".join(process.cmdline())
    except psutil.Error:
        return False
    return title.startswith("ray::_apply")
