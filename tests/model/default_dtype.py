"""Run a test under each narrow default dtype."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

NARROW = [torch.bfloat16, torch.float16]
narrow = pytest.mark.parametrize("narrow", NARROW, ids=str)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Set torch's default dtype, and the previous one again at the end."""
    previous = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(previous)
