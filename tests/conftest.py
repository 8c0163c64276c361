"""Fixtures for everything: where the golden numbers and the real data are, and skips that name what is missing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def require(path: Path) -> Path:
    """The path itself, or a skip that names it where it does not exist."""
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return path


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Folder of numbers from the published implementation: ELC_GOLDEN_DIR, by default ../shared/golden."""
    return require(Path(os.environ.get("ELC_GOLDEN_DIR", ROOT.parent / "shared" / "golden")))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of real text and minimal pairs: ELC_DATA_DIR, by default ../shared/data."""
    return require(Path(os.environ.get("ELC_DATA_DIR", ROOT.parent / "shared" / "data")))
