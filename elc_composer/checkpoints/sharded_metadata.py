"""Reads the `.metadata` of a sharded checkpoint (torch.distributed.checkpoint) without running code from it.

`.metadata` is a pickle, and torch 2.7 unpickles it without restriction. Only the classes that such metadata consists
of are allowed here.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import Metadata

from elc_composer.common.errors import DataError, one_line

ALLOWED = {
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
"""Module -> names that metadata may refer to, besides torch dtypes."""


class ClassNotAllowed(pickle.UnpicklingError):
    """A pickle refers to a class or function that is not in `ALLOWED`."""


class MetadataUnpickler(pickle.Unpickler):
    """Unpickler that accepts the classes of sharded metadata only."""

    def find_class(self, module: str, name: str) -> Any:
        """The class, if it is allowed or a torch dtype.

        Raises:
            ClassNotAllowed: otherwise.
        """
        is_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if not is_dtype and name not in ALLOWED.get(module, ()):
            raise ClassNotAllowed(f"{module}.{name}")
        return super().find_class(module, name)


def read_metadata(folder: Path) -> Metadata:
    """Read `.metadata` of a sharded checkpoint.

    Raises:
        DataError: it is damaged, refers to other classes, or names files outside the folder.
    """
    path = folder / ".metadata"
    try:
        with path.open("rb") as file:
            metadata = MetadataUnpickler(file).load()
    except ClassNotAllowed as error:
        raise DataError(
            f"{path} holds more than a checkpoint's metadata and was rejected; none of its code was executed: "
            f"{one_line(error)}"
        ) from error
    except Exception as error:  # a damaged pickle can raise any exception
        raise DataError(f"{path} cannot be read as a sharded checkpoint's metadata: {one_line(error)}") from error
    if not isinstance(metadata, Metadata):
        raise DataError(f"{path} holds a {type(metadata).__name__} instead of a checkpoint's metadata")
    try:
        places = [(info.relative_path, info.offset, info.length) for info in (metadata.storage_data or {}).values()]
        sound = all(isinstance(name, str) and min(offset, length) >= 0 for name, offset, length in places)
    except (AttributeError, TypeError):
        sound = False
    if not sound:
        raise DataError(f"{path} is damaged: storage locations are missing")
    for name, _, _ in places:
        if Path(name).name != name:
            raise DataError(f"{path} names a file outside its folder, {name}")
    return metadata
