"""Start a script on several CPU ranks with Composer's own launcher, as a user would."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def free_port() -> int:
    """A TCP port that nothing listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def launch(
    script: Path, *args: object, n: int = 2, timeout: float = 300, check: bool = True, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `composer -n <n> script args` on CPU with gloo and return the finished process; one rank needs no launcher.

    With `check`, a failure raises an AssertionError that holds the end of both output streams.
    """
    launcher = [sys.executable, "-m", "composer.cli.launcher", "-n", str(n), "--master_port", str(free_port())]
    command = [*(launcher if n > 1 else [sys.executable]), str(script)]
    alone = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    environment = {**os.environ, **alone, **(env or {})}
    done = subprocess.run(
        [*command, *map(str, args)], capture_output=True, text=True, timeout=timeout, env=environment, check=False
    )
    if check and done.returncode != 0:
        output = f"{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
        raise AssertionError(f"{script} on {n} ranks exited with {done.returncode}\n{output}")
    return done
