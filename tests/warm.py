"""Runs that need no interpreter of their own: a process that has imported everything forks each rank.

`with warm() as start:` gives `start(arguments, ranks)`, which runs tests/multirank/jobs/disturbed_job.py on so many
ranks, as separate processes without a launcher, and returns their exit codes and what they printed. With `nodes` each
rank is told that it is a machine of its own; `{node}` in an argument becomes its number.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import ROOT
from tests.forks import run_to_the_end
from tests.multirank.launch import free_port

PATIENCE = 90.0
"""Seconds after one rank's death within which the others must be gone."""


@dataclass(frozen=True)
class Ended:
    codes: list[int]
    """Exit codes by rank; the signal's number, negative, for a rank that was killed."""
    hung: bool
    """Whether a rank had to be killed since it outlived another by far."""
    output: str


Start = Callable[..., Ended]


@contextlib.contextmanager
def warm() -> Iterator[Start]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.warm"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def start(plan: dict[str, Any], arguments: Sequence[object], ranks: int = 1, nodes: bool = False) -> Ended:
            argv = [json.dumps(plan), *map(str, arguments)]
            request = {"argv": argv, "ranks": ranks, "nodes": nodes, "port": free_port()}
            process.stdin.write(json.dumps(request) + "\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            return Ended(**json.loads(process.stdout.readline()))  # type: ignore[union-attr]

        try:
            yield start
        finally:
            process.stdin.close()


def _serve() -> None:
    from tests.multirank.jobs import disturbed_job

    for line in sys.stdin:
        request = json.loads(line)
        with tempfile.TemporaryFile("w+") as output:
            children = [_fork(disturbed_job.main, request, rank, output.fileno()) for rank in range(request["ranks"])]
            codes, hung = _wait(children)
            output.seek(0)
            print(json.dumps({"codes": codes, "hung": hung, "output": output.read()}), flush=True)


def _wait(children: list[int]) -> tuple[list[int], bool]:
    codes: dict[int, int] = {}
    deadline, hung = None, False
    while len(codes) < len(children):
        for pid in set(children) - codes.keys():
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                codes[pid] = os.waitstatus_to_exitcode(status)
                deadline = deadline or time.monotonic() + PATIENCE
            elif deadline is not None and time.monotonic() > deadline:
                os.kill(pid, 9)
                hung = True
        time.sleep(0.02)
    return [codes[pid] for pid in children], hung


def _fork(main: Callable[[], None], request: dict[str, Any], rank: int, output: int) -> int:
    child = os.fork()
    if child:
        return child
    if request["ranks"] > 1:
        local, node = (0, rank) if request["nodes"] else (rank, 0)
        names = {"RANK": rank, "LOCAL_RANK": local, "NODE_RANK": node, "MASTER_PORT": request["port"]}
        local_ranks = 1 if request["nodes"] else request["ranks"]
        world = {"WORLD_SIZE": request["ranks"], "LOCAL_WORLD_SIZE": local_ranks, "MASTER_ADDR": "127.0.0.1"}
        os.environ.update({name: str(value) for name, value in {**names, **world}.items()})
    for stream in (1, 2):
        os.dup2(output, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.argv = ["train.py", *(argument.replace("{node}", str(rank)) for argument in request["argv"])]
    run_to_the_end(main)


def sample_ids(folder: Path) -> dict[int, list[int]]:
    """The ids of each step's batch, sorted, all ranks together; a step that was done twice must have the same."""
    found: dict[int, dict[str, list[int]]] = {}
    for path in folder.iterdir():
        step, ranks = path.name.removesuffix(".json").split(".")
        found.setdefault(int(step), {}).setdefault(ranks.split("of")[1], []).extend(json.loads(path.read_text()))
    for step, by_world in found.items():
        assert len({tuple(sorted(ids)) for ids in by_world.values()}) == 1, f"step {step} differs between world sizes"
    return {step: sorted(next(iter(by_world.values()))) for step, by_world in sorted(found.items())}


if __name__ == "__main__":
    _serve()
