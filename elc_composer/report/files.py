"""Read what a run has left in its folder, whole or while it is being written."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from elc_composer.common.errors import DataError

METRICS = "metrics.jsonl"
CHECKPOINT = re.compile(r"(?:ep\d+-)?ba(\d+)(?:-rank0\.pt)?")


@dataclass
class Series:
    """One metric over steps; None stands for what was no finite number."""

    steps: list[int] = field(default_factory=list)
    values: list[float | None] = field(default_factory=list)

    def last(self) -> float | None:
        """The newest finite value."""
        return next((value for value in reversed(self.values) if value is not None), None)


@dataclass
class Records:
    """The records of one JSONL file in the order of their steps, and what was odd about the file."""

    rows: list[dict[str, Any]]
    unreadable: int
    """Lines that are no JSON object with a step; a running run tears its last one."""
    jumps: list[tuple[int, int]]
    """(step before, step after) where the file goes back, as one that a resumed run appended to does."""


@dataclass
class RunFolder:
    """What one run has written so far; what is not there is empty."""

    name: str
    folder: Path
    config: dict[str, Any]
    config_text: str
    metrics: dict[str, Series]
    layer_weights: list[dict[str, Any]]
    mixed_inputs: list[dict[str, Any]]
    histograms: list[dict[str, Any]]
    manifests: list[tuple[str, dict[str, Any] | None]]
    """(where, manifest) of every stream; None where it is remote or not to be found from here."""
    checkpoints: list[int]
    jumps: list[tuple[int, int]]
    unreadable: int
    log: list[str]
    """Lines of log files that speak of faults."""
    written: float
    """When metrics were last written, seconds since 1970."""
    events: list[dict[str, Any]] = field(default_factory=list)
    """Lines of `events.jsonl`, in the order in which they were written."""

    @property
    def step(self) -> int:
        """The newest step; 0 where nothing is logged yet."""
        return max((series.steps[-1] for series in self.metrics.values()), default=0)

    def get(self, *path: str) -> Any:
        """A value of the config by its path; None where it is not there."""
        found: Any = self.config
        for key in path:
            if not isinstance(found, Mapping):
                return None
            found = found.get(key)
        return found


def read_runs(folders: Sequence[Path | str]) -> list[RunFolder]:
    """Every run, with names that tell them apart.

    Raises:
        DataError: a folder is not there, is no run's, or its config is damaged.
    """
    runs = [read_run(Path(folder)) for folder in folders]
    for pick in (lambda run: run.folder.name, lambda run: str(run.folder)):
        names = [run.name for run in runs]
        for run in runs:
            if names.count(run.name) > 1:
                run.name = pick(run)
    names = [run.name for run in runs]
    for number, run in enumerate(runs, start=1):
        if names.count(run.name) > 1:
            run.name = f"{run.name} ({number})"
    return runs


def read_run(folder: Path) -> RunFolder:
    """One run.

    Raises:
        DataError: the folder is not there, is no run's, or its config is damaged.
    """
    path = folder / METRICS
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder: give the run_folder of a run, such as runs/elc_strict")
    if not path.is_file():
        raise DataError(
            f"{folder} holds no {METRICS}: give the run_folder of a run (loggers.metrics_file must have been on)"
        )
    text = _text(folder / "config.yaml")
    try:
        config = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise DataError(f"{folder / 'config.yaml'} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(config, dict):
        raise DataError(f"{folder / 'config.yaml'} is no mapping of keys to values")
    records = read_records(path)
    return RunFolder(
        name=str(config.get("run_name") or folder.resolve().name),
        folder=folder,
        config=config,
        config_text=text,
        metrics=as_series(records.rows),
        layer_weights=_with(read_records(folder / "layer_weights.jsonl").rows, "layers", _is_shares),
        mixed_inputs=_with(read_records(folder / "mixed_inputs.jsonl").rows, "layers", _is_mix),
        histograms=_with(read_records(folder / "weight_histograms.jsonl").rows, "units", _is_histogram),
        manifests=read_manifests(config),
        checkpoints=find_checkpoints(folder, config),
        jumps=records.jumps,
        unreadable=records.unreadable,
        log=fault_lines(folder),
        written=path.stat().st_mtime,
        events=read_events(folder / "events.jsonl"),
    )


def read_records(path: Path) -> Records:
    """Records of a JSONL file; where it goes back to an earlier step, what came after is dropped as overwritten."""
    found = Records([], 0, [])
    rows = found.rows
    for line in _text(path).splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            record = None
        if not isinstance(record, dict) or not _is_step(record.get("step")):
            found.unreadable += bool(line.strip())
            continue
        if rows and record["step"] < rows[-1]["step"]:
            found.jumps.append((rows[-1]["step"], record["step"]))
            while rows and rows[-1]["step"] >= record["step"]:
                rows.pop()
        if rows and rows[-1]["step"] == record["step"]:
            rows[-1].update(record)
        else:
            rows.append(record)
    return found


def read_events(path: Path) -> list[dict[str, Any]]:
    """Lines of an event log; what is not whole is left out, and nothing counts as overwritten."""
    found = []
    for line in _text(path).splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(record, dict) and _is_step(record.get("step")) and isinstance(record.get("event"), str):
            found.append(record)
    return found


def as_series(rows: Sequence[Mapping[str, Any]]) -> dict[str, Series]:
    """Each metric by its name; text and switches are left out."""
    found: dict[str, Series] = {}
    for row in rows:
        for key, value in row.items():
            if key != "step" and (value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))):
                series = found.setdefault(key, Series())
                series.steps.append(row["step"])
                # other writers than ours put NaN and Infinity into their lines
                series.values.append(float(value) if value is not None and math.isfinite(value) else None)
    return {key: series for key, series in found.items() if series.last() is not None or key.startswith("loss")}


def read_manifests(config: Mapping[str, Any]) -> list[tuple[str, dict[str, Any] | None]]:
    """`manifest.json` of every stream's prepared data, where that lies on this machine."""
    data = config.get("data")
    streams = data.get("streams") if isinstance(data, Mapping) else None
    found: list[tuple[str, dict[str, Any] | None]] = []
    for stream in streams if isinstance(streams, list) else []:
        where = stream.get("local") or stream.get("remote") if isinstance(stream, Mapping) else None
        if where:
            try:
                manifest = json.loads(_text(Path(str(where)) / "manifest.json"))
            except json.JSONDecodeError:
                manifest = None
            found.append((str(stream.get("remote") or where), manifest if isinstance(manifest, dict) else None))
    return found


def find_checkpoints(folder: Path, config: Mapping[str, Any]) -> list[int]:
    """Steps whose checkpoints lie in the run's own or its local save folder."""
    section = config.get("checkpoints")
    named = section.get("save_folder") if isinstance(section, Mapping) else None
    places = {folder / "checkpoints"} | ({Path(named)} if isinstance(named, str) and "://" not in named else set())
    names = [path.name for place in places if place.is_dir() for path in place.iterdir() if not path.is_symlink()]
    return sorted({int(match[1]) for name in names if (match := CHECKPOINT.fullmatch(name))})


def fault_lines(folder: Path, most: int = 20) -> list[str]:
    """Lines of the run's log files that speak of damaged checkpoints, failed writing or errors; the newest ones."""
    faults = re.compile(r"is damaged; falling back|cannot be written|out of memory|^\w*(Error|Exception|Interrupt)\b")
    lines = [line for path in sorted(folder.glob("log-rank*.txt")) for line in _text(path).splitlines()]
    return [line.strip()[:300] for line in lines if faults.search(line)][-most:]


def _with(rows: list[dict[str, Any]], key: str, fits: Callable[[Any], bool]) -> list[dict[str, Any]]:
    """Rows of the shape that monitors write; others, from another program or a damaged disk, are left out."""
    found = [(row, row.get(key)) for row in rows]
    return [row for row, entries in found if isinstance(entries, dict) and entries and all(map(fits, entries.values()))]


def _is_step(value: Any) -> bool:
    # beyond 2**53 a browser's numbers no longer tell a step from the next, and axes have no end
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_shares(entry: Any) -> bool:
    return isinstance(entry, list) and bool(entry) and all(value is None or _is_number(value) for value in entry)


def _is_mix(entry: Any) -> bool:
    return isinstance(entry, dict) and _is_shares(entry.get("contributions"))


def _is_histogram(entry: Any) -> bool:
    if not isinstance(entry, dict) or not all(_is_number(entry.get(end)) for end in ("low", "high")):
        return False
    counts = entry.get("counts")
    return isinstance(counts, list) and bool(counts) and all(map(_is_number, counts))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
