"""`python -m elc_composer.launch -n 8 train.py ...`: Composer's launcher, with SIGTERM forwarded to the ranks.

The `composer` command exits on SIGTERM while its ranks still save a checkpoint, so its exit code says nothing about
them (seen with Composer 0.32). Here the ranks get the signal, and their exit code is returned: 75 after they saved.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType

import psutil
from composer.cli.launcher import main as composer_launcher


def main() -> int:
    """Launch with the arguments of the `composer` command; return the exit code of the ranks."""
    signal.signal(signal.SIGTERM, pass_on)
    return composer_launcher()


def pass_on(number: int, frame: FrameType | None) -> None:
    """Send SIGTERM to the ranks, which are child processes."""
    for rank in psutil.Process().children():
        try:
            rank.terminate()
        except psutil.NoSuchProcess:
            continue


if __name__ == "__main__":
    sys.exit(main())
