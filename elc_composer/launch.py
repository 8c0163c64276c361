"""`python -m elc_composer.launch -n 8 train.py ...`: Composer's launcher, with pre-emption notices passed on.

The `composer` command dies of SIGTERM and leaves its ranks behind, so that whoever waits for it learns nothing of the
checkpoint they save. Here the ranks get the signal, and the exit code is theirs: 75 once they have saved.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType

import psutil
from composer.cli.launcher import main as composer_launcher


def main() -> int:
    """Launch with the `composer` command's own arguments, and return the ranks' exit code."""
    signal.signal(signal.SIGTERM, pass_on)
    return composer_launcher()


def pass_on(number: int, frame: FrameType | None) -> None:
    """Send SIGTERM to the ranks, which are this process's children."""
    for rank in psutil.Process().children():
        try:
            rank.terminate()
        except psutil.NoSuchProcess:
            continue


if __name__ == "__main__":
    sys.exit(main())
