"""Ranks of a distributed evaluation, by torch alone: scoring needs no Composer."""

from __future__ import annotations

import os
from typing import Any

import torch.distributed as dist


def is_initialized() -> bool:
    """Whether a process group exists."""
    return dist.is_available() and dist.is_initialized()


def get_global_rank() -> int:
    """Rank of this process; before a process group exists, the launcher's environment variable."""
    return dist.get_rank() if is_initialized() else int(os.environ.get("RANK", 0))


def get_world_size() -> int:
    """Number of processes; before a process group exists, the launcher's environment variable."""
    return dist.get_world_size() if is_initialized() else int(os.environ.get("WORLD_SIZE", 1))


def get_local_rank() -> int:
    """Rank of this process on its machine."""
    return int(os.environ.get("LOCAL_RANK", 0))


def all_gather_object(own: Any) -> list[Any]:
    """Every rank's picklable object, on all ranks."""
    if get_world_size() == 1:
        return [own]
    gathered: list[Any] = [None] * get_world_size()
    dist.all_gather_object(gathered, own)
    return gathered


def barrier() -> None:
    """Wait for all ranks."""
    if is_initialized():
        dist.barrier()
