"""torch.distributed: initialization, work on rank 0 for all ranks, and time for Gloo's threads at exit."""

from __future__ import annotations

import atexit
import time
from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed
from composer.utils import dist

from elc_composer.common.errors import ConfigError, DataError

PAUSE = 0.3
"""Seconds that Gloo's threads get at exit; they need microseconds, but a busy machine may delay them."""

Result = TypeVar("Result")


def join_process_group(device: Any, timeout: float = 300.0) -> None:
    """Initialize torch.distributed as Composer's `dist.initialize_dist(device, timeout)` does; wait for Gloo at exit.

    A Gloo thread frees its tensors after a collective, for which it needs Python's lock. If it gets the lock while the
    interpreter shuts down, the process aborts ("terminate called without an active exception") and its exit code is
    lost. Destroying the process group does not help: it waits for these threads while it holds the lock, so the
    process hangs (both seen with torch 2.7; pytorch/pytorch issue 190489).
    """
    dist.initialize_dist(device, timeout)
    # Handlers run in reverse order of registration, so the trainer's own runs before this one.
    atexit.unregister(let_gloo_finish)
    atexit.register(let_gloo_finish)


def let_gloo_finish() -> None:
    """Release Python's lock for `PAUSE` seconds if this process has Gloo threads."""
    if torch.distributed.is_initialized() and torch.distributed.get_backend() == "gloo" and dist.get_world_size() > 1:
        time.sleep(PAUSE)


def on_rank_zero(work: Callable[[], Result]) -> Result:
    """Run `work` on rank 0 and return its result, which must be picklable, on every rank.

    Raises:
        ConfigError, DataError: raised by `work`, on every rank. If only rank 0 raised it, the others would wait for
            rank 0 in their next collective.
    """
    outcome: list[Any] = [None, None]
    if dist.get_global_rank() == 0:
        try:
            outcome[0] = work()
        except (ConfigError, DataError) as error:
            outcome[1] = error
    dist.broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]
