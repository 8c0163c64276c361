"""Fixtures for everything: where the golden numbers and the real data are, and skips that name what is missing."""

from __future__ import annotations

import os
from collections.abc import Callable
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


@pytest.fixture
def deviations(record_property: Callable[[str, object], None]) -> Callable[[str, float], float]:
    """Note how far a number is from the published one: `deviations(kind, error)` returns the error."""

    def note(kind: str, error: float) -> float:
        record_property("deviation", [kind, error])
        return error

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many comparisons ran and the largest deviation of each kind, over all workers."""
    kinds: dict[str, list[float]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") == "call":
                for name, value in report.user_properties:
                    if name == "deviation":
                        kinds.setdefault(value[0], []).append(value[1])
    if kinds:
        terminalreporter.section("deviation from the published implementation")
        total = sum(map(len, kinds.values()))
        terminalreporter.write_line(f"{total} comparisons; largest relative error of each kind:")
        width = max(map(len, kinds))
        for kind, errors in sorted(kinds.items()):
            terminalreporter.write_line(f"  {kind:<{width}}  {max(errors):.1e}  ({len(errors)})")
