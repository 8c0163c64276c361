"""How a rank joins the others, and how it leaves them without an accident."""

from __future__ import annotations

import atexit
import time
from typing import Any

import torch.distributed
from composer.utils import dist

PAUSE = 0.3
"""Seconds that Gloo's threads get at the end; they need microseconds, but a busy machine may let them wait."""


def join_process_group(device: Any, timeout: float = 300.0) -> None:
    """Composer's `dist.initialize_dist(device, timeout)`; Gloo's threads get time to finish before this process ends.

    A thread of Gloo that has just done a collective frees its tensors, for which it needs Python's lock. If it comes by
    that lock while the interpreter shuts down, the process aborts ("terminate called without an active exception") and
    its exit code is lost. Destroying the process group is no way out: it waits for these threads with the lock held, so
    that the process hangs instead (both seen with torch 2.7; pytorch/pytorch issue 190489).
    """
    dist.initialize_dist(device, timeout)
    # The trainer's own handler is registered later and runs before this one.
    atexit.unregister(let_gloo_finish)
    atexit.register(let_gloo_finish)


def let_gloo_finish() -> None:
    """Leave Python's lock to Gloo's threads for `PAUSE` seconds, where there are any."""
    if torch.distributed.is_initialized() and torch.distributed.get_backend() == "gloo" and dist.get_world_size() > 1:
        time.sleep(PAUSE)
