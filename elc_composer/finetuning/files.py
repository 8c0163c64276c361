"""Finds and reads the files of a task: layouts of the BabyLM pipelines, and own files in JSON Lines or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from elc_composer.common.errors import DataError, one_line
from elc_composer.common.files import sha256_file
from elc_composer.common.json_files import parse_json, read_json_lines
from elc_composer.finetuning.tasks import Task

FIRST_NAMES = {"mnli": ("validation_matched", "valid_matched")}
"""Other names of a task's first evaluation file."""


@dataclass
class Examples:
    """The texts and labels of one file."""

    path: Path
    first: list[str] = field(default_factory=list)
    second: list[str] | None = None
    labels: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class TaskFiles:
    """Files of one task: training, and evaluation sets by name, of which the first is `valid`."""

    train: Path
    evaluation: dict[str, Path]

    def digests(self) -> dict[str, str]:
        """Hexadecimal sha256 of each file."""
        files = {"train": self.train, **self.evaluation}
        return {name: sha256_file(path) for name, path in files.items()}


def find_files(folder: Path, task: Task) -> TaskFiles:
    """The files of a task in a folder.

    Layout of 2025 and 2026: `rte.train.jsonl`, `rte.valid.jsonl`; of 2023: `rte.train.json`, `rte.validation.json`.
    Sets of MNLI: `mnli.validation_matched.json`, `mnli.validation_mismatched.json` (may be missing).

    Raises:
        DataError: the folder or a file is missing.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder: give the folder with the tasks' files, such as rte.train.jsonl")
    train = _first(folder, [f"{task.name}.train.jsonl", f"{task.name}.train.json"])
    names = [*FIRST_NAMES.get(task.name, ()), "valid", "validation", *(["test"] if task.condition else [])]
    if task.condition:
        names = ["test", "valid", "validation"]
    valid = _first(folder, [f"{task.name}.{name}.{end}" for name in names for end in ("jsonl", "json")])
    found = {"valid": valid}
    if train is None or valid is None:
        missing = "training" if train is None else "validation"
        raise DataError(
            f"task {task.name}: {folder} has no {missing} file; expected {task.name}.train.jsonl and "
            f"{task.name}.valid.jsonl (2025, 2026), or {task.name}.train.json and {task.name}."
            f"{FIRST_NAMES.get(task.name, ('validation',))[0]}.json (2023)"
        )
    for more in task.more:
        stems = (f"{task.name}.validation_{more}", f"{task.name}.valid_{more}", f"{task.name}-mm.valid")
        other = _first(folder, [f"{stem}.{end}" for stem in stems for end in ("jsonl", "json")])
        if other is not None:
            found[more] = other
    return TaskFiles(train, {name: path for name, path in found.items() if path is not None})


def read_examples(path: Path, task: Task, *, scored: bool, limit: int | None = None) -> Examples:
    """The examples of a file.

    Args:
        path: JSON Lines, a JSON list of objects, or CSV (by the ending `.csv`) with a header.
        task: its fields, labels and condition.
        scored: an evaluation file: only rows of the task's condition are read.
        limit: read at most this many rows.

    Raises:
        DataError: the file cannot be read, has no rows, or a row lacks a field or has a label outside the set.
    """
    found = Examples(path, second=[] if task.second else None)
    for number, row in enumerate(_rows(path), start=1):
        if limit is not None and len(found) >= limit:
            break
        if task.condition and scored and row.get("condition", task.condition) != task.condition:
            continue
        found.labels.append(_label(row, task, path, number))
        for name in task.fields:
            if not isinstance(row.get(name), str):
                raise DataError(
                    f"{path} row {number}: field '{name}' is missing or is not text; task {task.name} reads "
                    f"{', '.join(task.fields)} and {task.label}"
                )
        first, second = task.texts(row)
        found.first.append(first)
        if found.second is not None and second is not None:
            found.second.append(second)
    if not found.labels:
        raise DataError(f"{path} has no examples of task {task.name}")
    return found


def _first(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _label(row: dict[str, Any], task: Task, path: Path, number: int) -> int:
    value = row.get(task.label)
    if task.names is not None:
        if str(value) in task.names:
            return task.names.index(str(value))
        allowed = ", ".join(task.names)
    else:
        if isinstance(value, str) and value.isdecimal() and len(value) < 6:
            value = int(value)
        if isinstance(value, bool):
            value = int(value)
        if isinstance(value, int) and 0 <= value < task.classes:
            return value
        allowed = ", ".join(map(str, range(task.classes)))
    raise DataError(f"{path} row {number}: '{task.label}' is {row.get(task.label)!r}, must be one of {allowed}")


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if path.suffix == ".csv":
        yield from _csv_rows(path)
        return
    try:
        with path.open("rb") as file:
            is_list = file.read(1) == b"["
        listed = parse_json(path.read_bytes(), path) if is_list else None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or one_line(error)})") from None
    for number, row in enumerate(read_json_lines(path) if listed is None else listed, start=1):
        if not isinstance(row, dict):
            raise DataError(f"{path} row {number} is not a JSON object")
        yield row


def _csv_rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        yield from csv.DictReader(io.StringIO(text, newline=""))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or one_line(error)})") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a CSV file in UTF-8 ({one_line(error)})") from None
