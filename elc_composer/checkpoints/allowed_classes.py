"""What a run's checkpoint may hold besides tensors and plain containers; loading it runs no other code.

Composer (0.32.1) loads with `weights_only=False`, and torch (2.7) reads the parts of a sharded checkpoint that are no
tensors in the same way.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals
from torch.torch_version import TorchVersion

_DTYPES = (np.uint8, np.uint32, np.int32, np.int64, np.uint64, np.float32, np.float64, np.bool_)
_NUMPY: dict[str, Any] = {
    # How numpy pickles arrays and scalars, under the module's names in numpy 1 and 2, which read each other's files.
    f"numpy.{core}.multiarray.{name}": made.__reduce__()[0]
    for core in ("core", "_core")
    for name, made in (("_reconstruct", np.empty(0)), ("scalar", np.float64(0)))
}
ALLOWED: dict[str, Any] = {
    "datetime.timedelta": datetime.timedelta,
    "torch.torch_version.TorchVersion": TorchVersion,
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    **_NUMPY,
    **{f"numpy.dtypes.{type(np.dtype(kind)).__name__}": type(np.dtype(kind)) for kind in _DTYPES},
}
"""Name in the pickle -> class or function: times, random states, and versions in a Composer checkpoint."""

_FORCE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
_FORCE_NOT = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


def foreign_names(checkpoint: Any) -> list[str]:
    """Names of the classes and functions that a file of `torch.save`, or one part of it, must not hold.

    Reads the pickle's instructions and runs none of them.

    Args:
        checkpoint: a path, or an open binary file.

    Raises:
        Exception: of any kind, if the archive is damaged.
    """
    return sorted(name for name in get_unsafe_globals_in_checkpoint(checkpoint) if name not in ALLOWED)


@contextmanager
def loading_without_code() -> Iterator[None]:
    """Let every `torch.load` of this process load with `weights_only` and `ALLOWED`, whatever its caller asks for."""
    before = {name: os.environ.pop(name, None) for name in (_FORCE, _FORCE_NOT)}
    os.environ[_FORCE] = "1"
    try:
        with safe_globals([(value, name) for name, value in ALLOWED.items()]):
            yield
    finally:
        del os.environ[_FORCE]
        os.environ.update({name: value for name, value in before.items() if value is not None})
