"""`python -m elc_composer.launch -n 8 train.py ...`: Composer's launcher, with signals that end a run as documented.

The `composer` command exits on SIGTERM while its ranks still save a checkpoint, so its exit code says nothing about
them (seen with Composer 0.32). Here the ranks get the signal, and their exit code is returned: 75 after they saved.
Ctrl-C ends with 130; a terminal sends it to the ranks, too.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from types import FrameType

import psutil
from composer.cli.launcher import main as composer_launcher

INTERRUPTED = 130


def main() -> int:
    """Launch with the arguments of the `composer` command; return the exit code of the ranks."""
    return launch(sys.argv[1:])


def launch(arguments: Sequence[str]) -> int:
    """The same with these arguments."""
    interrupted = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        # Composer's launcher waits for this one; Composer's own handler, set on import, raises SystemExit instead.
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, note)
    # The launcher reads them from there.
    sys.argv = [sys.argv[0], *arguments]
    code = composer_launcher()
    return INTERRUPTED if interrupted else code


def pass_on(number: int, frame: FrameType | None) -> None:
    """Send SIGTERM to the ranks, which are child processes."""
    for rank in psutil.Process().children():
        try:
            rank.terminate()
        except psutil.NoSuchProcess:
            continue


if __name__ == "__main__":
    sys.exit(main())
