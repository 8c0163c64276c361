"""Reads everything that a run has written to its folder, during the run or after it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elc_composer.common import run_folder
from elc_composer.common.errors import ConfigError, DataError, one_line
from elc_composer.common.typed_values import untyped
from elc_composer.common.yaml_text import parse_yaml
from elc_composer.report.manifests import Manifest, read_manifests
from elc_composer.report.recorded_events import RecordedEvent, read_events
from elc_composer.report.series import Series, as_series
from elc_composer.report.step_records import (
    Record,
    StepRecords,
    is_histogram,
    is_mixed_input,
    is_share_list,
    keep_shape,
    read_step_records,
)

CHECKPOINT_NAME = re.compile(r"(?:ep\d+-)?ba(\d{1,15})(?:-rank0\.pt)?")
FAULT_LINE = re.compile(r"is damaged; falling back|cannot be written|out of memory|^\w*(Error|Exception|Interrupt)\b")
MAX_FAULT_LINES = 20


@dataclass
class RunFolder:
    """What one run has written so far; missing files give empty values."""

    name: str
    folder: Path
    config: dict[str, Any]
    config_text: str
    metrics: dict[str, Series]
    layer_weights: list[Record]
    mixed_inputs: list[Record]
    histograms: list[Record]
    manifests: list[Manifest]
    checkpoints: list[int]
    """Steps of the checkpoints on the local disk, ascending."""
    files: list[StepRecords]
    """The record files behind the fields above, with the damage that was found in them."""
    log: list[str]
    """Lines of log files that report faults."""
    written: float
    """When metrics.jsonl was last written, in seconds since 1970."""
    events: list[RecordedEvent]
    has_events: bool
    """False for a folder without `events.jsonl`, such as one of another Composer project."""

    @property
    def step(self) -> int:
        """The newest step with a metric; 0 before the first one."""
        return max((series.steps[-1] for series in self.metrics.values()), default=0)

    def get(self, *path: str) -> Any:
        """The config's value at a path of keys; None if it is missing."""
        found: Any = self.config
        for key in path:
            if not isinstance(found, Mapping):
                return None
            found = found.get(key)
        return found


def read_runs(folders: Sequence[Path | str]) -> list[RunFolder]:
    """Read each folder and give the runs distinct names.

    Raises:
        DataError: see `read_run`.
    """
    runs = [read_run(Path(folder)) for folder in folders]
    for alternative in (lambda run: run.folder.name, lambda run: str(run.folder)):
        names = [run.name for run in runs]
        for run in runs:
            if names.count(run.name) > 1:
                run.name = printable(alternative(run))
    names = [run.name for run in runs]
    for number, run in enumerate(runs, start=1):
        if names.count(run.name) > 1:
            run.name = f"{run.name} ({number})"
    return runs


def read_run(folder: Path) -> RunFolder:
    """Read one run folder. Damaged records are left out and counted.

    Raises:
        DataError: no such folder, no metrics.jsonl in it, or a metrics.jsonl or config.yaml that cannot be read.
    """
    path = folder / run_folder.METRICS
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder: give the run_folder of a run, such as runs/elc_strict")
    if not path.exists():
        raise DataError(
            f"{folder} contains no {path.name}: give the run_folder of a run (with loggers.metrics_file, on by default)"
        )
    metrics = read_step_records(path)
    if metrics.problem:
        raise DataError(f"{metrics.problem}: the report needs this file")
    config, text = read_config(folder / run_folder.CONFIG)
    weights = read_step_records(folder / run_folder.LAYER_WEIGHTS)
    mixed = read_step_records(folder / run_folder.MIXED_INPUTS)
    histograms = read_step_records(folder / run_folder.WEIGHT_HISTOGRAMS)
    events, event_file = read_events(folder / run_folder.EVENTS)
    return RunFolder(
        name=printable(str(config.get("run_name") or folder.resolve().name)),
        folder=folder,
        config=config,
        config_text=text,
        metrics=as_series(metrics.rows),
        layer_weights=keep_shape(weights, "layers", is_share_list),
        mixed_inputs=keep_shape(mixed, "layers", is_mixed_input),
        histograms=keep_shape(histograms, "units", is_histogram),
        manifests=read_manifests(config),
        checkpoints=find_checkpoints(folder, config),
        files=[metrics, weights, mixed, histograms, event_file],
        log=fault_lines(folder),
        written=path.stat().st_mtime,
        events=events,
        has_events=(folder / run_folder.EVENTS).exists(),
    )


def read_config(path: Path) -> tuple[dict[str, Any], str]:
    """The config as a dict and as text; both empty if the file is missing.

    Raises:
        DataError: the file cannot be read, is not valid YAML, or is not a mapping.
    """
    if not path.exists():
        return {}, ""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or one_line(error)})") from None
    try:
        # Limits the depth and the number of values, which aliases could multiply without end.
        config = untyped(parse_yaml(text, path).tree) or {}
    except ConfigError as error:
        raise DataError(f"{path} is not valid YAML ({one_line(error)})") from None
    if not isinstance(config, dict):
        raise DataError(f"{path} is not a mapping of keys to values")
    return config, text


def find_checkpoints(folder: Path, config: Mapping[str, Any]) -> list[int]:
    """Steps of the checkpoints in the run's `checkpoints` folder and in its local save folder, ascending."""
    section = config.get("checkpoints")
    named = section.get("save_folder") if isinstance(section, Mapping) else None
    places = {folder / run_folder.CHECKPOINTS}
    if isinstance(named, str) and "://" not in named:
        places.add(Path(named))
    steps = set()
    for place in places:
        try:
            names = [path.name for path in place.iterdir() if not path.is_symlink()]
        except (OSError, ValueError):  # missing or unreadable; ValueError: a path with a null byte
            continue
        steps |= {int(match[1]) for name in names if (match := CHECKPOINT_NAME.fullmatch(name))}
    return sorted(steps)


def fault_lines(folder: Path) -> list[str]:
    """The newest lines of the run's log files about damaged checkpoints, failed writes or errors."""
    found = []
    for path in sorted(folder.glob("log-rank*.txt")):
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        found += [line.strip()[:300] for line in text.splitlines() if FAULT_LINE.search(line)]
    return found[-MAX_FAULT_LINES:]


def printable(text: str) -> str:
    """The text with a question mark for each lone surrogate, which UTF-8 cannot encode."""
    return text.encode("utf-8", "replace").decode("utf-8")
