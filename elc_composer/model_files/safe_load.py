"""Reads torch and safetensors files of unknown origin without running code from them."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from elc_composer.common.errors import DataError, one_line


class Inert:
    """Inert placeholder for objects of classes that are not allowed: accepts any arguments and does nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Inert:
        """An empty object for any arguments."""
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def load_torch_file(path: Path, allowed: Iterable[type] = (), ignore_other_classes: bool = False) -> Any:
    """Read a file of `torch.save` to the CPU without running code from it.

    Args:
        path: the file.
        allowed: classes that it may hold, besides tensors and plain containers.
        ignore_other_classes: replace objects of other classes by `Inert` instead of refusing the file.

    Raises:
        DataError: the file is damaged, or holds a class that is not allowed.
    """
    classes: list[Any] = list(allowed)
    try:
        is_zip = zipfile.is_zipfile(path)
        if ignore_other_classes and is_zip:
            known = {f"{each.__module__}.{each.__qualname__}" for each in classes}
            classes += [(Inert, name) for name in get_unsafe_globals_in_checkpoint(path) if name not in known]
        with safe_globals(classes):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True if is_zip else None)
    except (pickle.UnpicklingError, OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError) as error:
        foreign = re.search(r"GLOBAL ([\w.]+)", str(error))
        if foreign:
            raise DataError(
                f"{path} holds more than weights ({foreign[1]}) and was rejected; none of its code was executed"
            ) from error
        if isinstance(error, OSError) and error.strerror:
            raise DataError(f"{path} cannot be read: {error.strerror}") from error
        # torch's message is not shown: it often advises weights_only=False, which would run the file's code.
        raise DataError(f"{path} is damaged, not a torch checkpoint, or holds more than plain weights") from error


def load_safetensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        DataError: it is damaged or cannot be read.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} cannot be read as safetensors: {one_line(error)}") from error
