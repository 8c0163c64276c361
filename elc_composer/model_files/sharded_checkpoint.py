"""Reads the model's parameters from a sharded checkpoint (torch.distributed.checkpoint) in one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata

from elc_composer.checkpoints.sharded_metadata import read_metadata
from elc_composer.common.errors import DataError, one_line

PREFIX = "state.model."
"""Composer stores the model's parameters under this prefix."""


class SafeReader(dcp.FileSystemReader):
    """torch's reader (it reads tensors with `weights_only`) with metadata that was read safely before."""

    def __init__(self, path: Path, metadata: Metadata) -> None:
        super().__init__(path)
        self.metadata = metadata

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """The metadata given to the constructor; torch's own method unpickles the file without restriction."""
        return self.metadata


def read_shards(folder: Path) -> dict[str, Tensor]:
    """The model's whole parameters, by the names under which the trainer stored them.

    Raises:
        DataError: shards are missing or damaged, or hold more than tensors.
    """
    metadata = read_metadata(folder)
    whole = {
        name: torch.empty(entry.size, dtype=entry.properties.dtype)
        for name, entry in metadata.state_dict_metadata.items()
        if name.startswith(PREFIX) and isinstance(entry, TensorStorageMetadata)
    }
    try:
        dcp.load(whole, storage_reader=SafeReader(folder, metadata), no_dist=True)
    except (Exception, dcp.CheckpointException) as error:  # CheckpointException is a BaseException that wraps others
        first = next(iter(error.failures.values()))[0] if isinstance(error, dcp.CheckpointException) else error
        cause = f"{type(first).__name__} {one_line(first)}"
        raise DataError(f"{folder} is damaged or incomplete as a sharded checkpoint: {cause}") from error
    return {name.removeprefix(PREFIX): value for name, value in whole.items()}
