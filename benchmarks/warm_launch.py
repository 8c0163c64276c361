"""Start Composer's launcher by forking a process that has imported everything: seconds instead of half a minute.

Only the way in which the launcher starts a rank is replaced: it also forks, and the fork runs the script as
`python script.py` would.
"""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
from multiprocessing import process as multiprocessing_process
from pathlib import Path
from subprocess import CalledProcessError
from types import SimpleNamespace
from typing import Any, NoReturn
from unittest import mock

from composer.cli import launcher

from elc_composer import launch
from tests.forks import run_to_the_end


class ForkedPython:
    """The part of subprocess.Popen that the launcher uses, for `[python, script, *arguments]`."""

    def __init__(self, args: list[str], *, stdout: Any = None, stderr: Any = None, text: bool = True) -> None:
        self.args, self.stdout, self.stderr = args, stdout, stderr
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            for stream, number in ((stdout, 1), (stderr, 2)):
                if stream is not None:
                    os.dup2(stream.fileno(), number)
            run_as_main(args[1], args[2:])

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


def run_as_main(script: str, arguments: list[str]) -> NoReturn:
    """Run a script and end this process as the interpreter would."""
    # A fork must not end the other children of its parent.
    multiprocessing_process._children.clear()  # type: ignore[attr-defined]
    sys.argv = [script, *arguments]
    run_to_the_end(lambda: runpy.run_path(script, run_name="__main__"))


def start(ranks: int, port: int, script: Path, arguments: list[str], log: Path) -> int:
    """Fork `python -m elc_composer.launch -n <ranks> script arguments` in a session of its own; its process id."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.argv = ["composer", "-n", str(ranks), "--master_port", str(port), str(script), *arguments]
    code = 1
    try:
        warm = SimpleNamespace(Popen=ForkedPython, STDOUT=subprocess.STDOUT, CalledProcessError=CalledProcessError)
        with mock.patch.object(launcher, "subprocess", warm):
            code = launch.main()
    finally:
        sys.stdout.flush()
        os._exit(code)
