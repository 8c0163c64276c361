"""Fixtures for everything: where the golden numbers and the real data are, and skips that name what is missing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def require(path: Path) -> Path:
    """The path itself, or a skip that names it where it does not exist."""
    if not path.exists():
        pytest.skip(f"{path} does not exist")
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


@pytest.fixture
def matrix(record_property: Callable[[str, object], None]) -> Callable[[str, str, float], float]:
    """Note how far two ranks are from one: `matrix(row, column, deviation)` returns the deviation."""

    def note(row: str, column: str, deviation: float) -> float:
        record_property("matrix", [row, column, deviation])
        return deviation

    return note


@pytest.fixture
def compared(record_property: Callable[[str, object], None]) -> Callable[[str, int], None]:
    """Count what was compared with the published output: `compared(kind, count)`."""

    def note(kind: str, count: int) -> None:
        record_property("compared", [kind, count])

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the tests measured, over all workers: the largest deviation of each kind, and the matrix of ranks."""
    kinds: dict[str, list[float]] = {}
    cells: dict[str, dict[str, float]] = {}
    counts: dict[str, int] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") == "call":
                for name, value in report.user_properties:
                    if name == "deviation":
                        kinds.setdefault(value[0], []).append(value[1])
                    elif name == "compared":
                        counts[value[0]] = counts.get(value[0], 0) + value[1]
                    elif name == "matrix":
                        cells.setdefault(value[1], {})[value[0]] = value[2]
    if cells:
        terminalreporter.section("two ranks against one: largest deviation of a step's loss")
        rows = list(dict.fromkeys(row for column in cells.values() for row in column))
        width = max(map(len, cells))
        terminalreporter.write_line(" " * (width + 2) + "".join(f"{row:>17}" for row in rows))
        for name, column in sorted(cells.items()):
            shown = "".join(f"{f'{column[row]:.1e}' if row in column else '':>17}" for row in rows)
            terminalreporter.write_line(f"  {name:<{width}}{shown}")
        largest = max(value for column in cells.values() for value in column.values())
        terminalreporter.write_line(f"  {sum(map(len, cells.values()))} combinations, largest deviation {largest:.1e}")
    if counts:
        terminalreporter.section("equal to the published output")
        for kind, count in sorted(counts.items()):
            terminalreporter.write_line(f"  {count:,} {kind}")
    if kinds:
        terminalreporter.section("deviation from the published implementation")
        total = sum(map(len, kinds.values()))
        terminalreporter.write_line(f"{total} comparisons; largest relative error of each kind:")
        width = max(map(len, kinds))
        for kind, errors in sorted(kinds.items()):
            terminalreporter.write_line(f"  {kind:<{width}}  {max(errors):.1e}  ({len(errors)})")


@pytest.fixture
def offline_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that offline W&B runs are written to. wandb reads the environment once, until it is torn down."""
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    wandb.teardown()
    yield tmp_path
    wandb.teardown()


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder for temporary files whose path is short: names of the workers' Unix sockets have 108 bytes at most."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
