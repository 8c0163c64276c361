"""Write small checkpoints, full and sharded, and flip bits of their files."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp


def save(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"weight": torch.arange(100.0)}, path)
    return path


def save_sharded(folder: Path) -> Path:
    state = {"weight": torch.arange(100.0), "bias": torch.ones(7), "step": 3}
    dcp.save(state, storage_writer=dcp.FileSystemWriter(folder), no_dist=True)
    return folder


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
