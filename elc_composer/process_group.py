"""How a rank joins the others, and leaves them."""

from __future__ import annotations

import atexit
from typing import Any

import torch.distributed
from composer.utils import dist


def join_process_group(device: Any, timeout: float = 300.0) -> None:
    """Composer's `dist.initialize_dist(device, timeout)`; what Gloo holds is let go before the interpreter ends.

    Gloo's threads may still hold tensors of past collectives. Where those are freed while the interpreter shuts down,
    the process aborts ("terminate called without an active exception"): rarely, but its exit code is lost then. Source:
    pytorch/pytorch issue 190489.
    """
    dist.initialize_dist(device, timeout)
    # The trainer's own handler, registered later, must run before this one.
    atexit.unregister(leave_gloo)
    atexit.register(leave_gloo)


def leave_gloo() -> None:
    """Close this rank's process group if it is Gloo's, which waits for nobody; NCCL might, for ranks that are stuck."""
    if torch.distributed.is_initialized() and torch.distributed.get_backend() == "gloo":
        torch.distributed.destroy_process_group()
