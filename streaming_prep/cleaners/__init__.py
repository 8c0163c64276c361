"""Cleaners of the BabyLM corpora."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from elc_composer.errors import DataError
from streaming_prep.cleaners.base import Boundary, Cleaner

__all__ = ["CLEANERS", "Boundary", "Cleaner", "get_cleaner"]


def _unchanged(lines: Iterable[str]) -> Iterator[str]:
    yield from lines


CLEANERS: dict[str, Cleaner] = {"none": Cleaner("none", _unchanged, Boundary.LINE)}
"""All cleaners by the name of their corpus in the 2023 layout, plus `none`."""


def get_cleaner(name: str, file: str | Path | None = None) -> Cleaner:
    """The cleaner of that name; `auto` takes the stem of `file`. Raises `DataError` naming the nearest known one."""
    if name not in CLEANERS:
        raise DataError(f"no cleaner is called {name!r}")
    return CLEANERS[name]
