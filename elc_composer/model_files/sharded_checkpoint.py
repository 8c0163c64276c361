"""Sharded checkpoints (torch.distributed.checkpoint), read in one process.

torch unpickles a sharded checkpoint's `.metadata` without any restriction; here only the classes it needs are known.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata

from elc_composer.common.errors import DataError

PREFIX = "state.model."
KNOWN = {
    "torch.distributed.checkpoint.metadata": {
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "TensorStorageMetadata",
        "TensorProperties",
        "ChunkStorageMetadata",
        "BytesStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch.serialization": {"_get_layout"},
    "torch": {"Size", "device"},
    "pathlib": {"PosixPath", "PurePosixPath"},
    "collections": {"OrderedDict"},
}


class MetadataUnpickler(pickle.Unpickler):
    """Knows what sharded checkpoints' metadata consists of, and refuses all else."""

    def find_class(self, module: str, name: str) -> Any:
        """The class, if it is a known one or a torch dtype.

        Raises:
            pickle.UnpicklingError: otherwise.
        """
        is_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if not is_dtype and name not in KNOWN.get(module, ()):
            raise pickle.UnpicklingError(f"{module}.{name}")
        return super().find_class(module, name)


class SafeReader(dcp.FileSystemReader):
    """Torch's reader (which reads tensors with `weights_only`) over safely read metadata."""

    def __init__(self, path: Path, metadata: Metadata) -> None:
        super().__init__(path)
        self.metadata = metadata

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """What the constructor was given."""
        return self.metadata


def read_metadata(folder: Path) -> Metadata:
    """Unpickle `.metadata` by the allow-list.

    Raises:
        DataError: if it is damaged, holds anything else, or points out of the folder.
    """
    path = folder / ".metadata"
    try:
        with path.open("rb") as file:
            metadata = MetadataUnpickler(file).load()
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{path} holds more than a checkpoint's metadata and was refused, nothing of it was run: {error}"
        ) from error
    except Exception as error:  # damaged pickles raise anything
        raise DataError(f"{path} cannot be read as a sharded checkpoint's metadata: {error}") from error
    if not isinstance(metadata, Metadata):
        raise DataError(f"{path} holds a {type(metadata).__name__} instead of a checkpoint's metadata")
    try:
        places = [(info.relative_path, info.offset, info.length) for info in (metadata.storage_data or {}).values()]
        sound = all(isinstance(name, str) and min(offset, length) >= 0 for name, offset, length in places)
    except (AttributeError, TypeError):
        sound = False
    if not sound:
        raise DataError(f"{path} is damaged: it does not say where the parts of the checkpoint are")
    for name, _, _ in places:
        if Path(name).name != name:
            raise DataError(f"{path} points out of its folder, to {name}")
    return metadata


def read_shards(folder: Path) -> dict[str, Tensor]:
    """The model's parameters, whole, by the names that the trainer stored them under.

    Raises:
        DataError: if shards are missing or damaged, or hold more than tensors.
    """
    metadata = read_metadata(folder)
    whole = {
        name: torch.empty(entry.size, dtype=entry.properties.dtype)
        for name, entry in metadata.state_dict_metadata.items()
        if name.startswith(PREFIX) and isinstance(entry, TensorStorageMetadata)
    }
    try:
        dcp.load(whole, storage_reader=SafeReader(folder, metadata), no_dist=True)
    except (Exception, dcp.CheckpointException) as error:  # torch's own is no Exception, and wraps any
        first = next(iter(error.failures.values()))[0] if isinstance(error, dcp.CheckpointException) else error
        cause = f"{type(first).__name__} {first}".strip()
        raise DataError(f"{folder} is damaged or incomplete as a sharded checkpoint: {cause}") from error
    return {name.removeprefix(PREFIX): value for name, value in whole.items()}
