"""Table of a sweep: mean and standard deviation over seeds, beside the scores of the majority class."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from elc_composer.common.files import write_json, write_text
from elc_composer.finetuning.tasks import MSGS_MIXED, TASKS, Task

NAMES = {"accuracy": "accuracy", "f1": "F1", "mcc": "Matthews correlation"}
BIAS = "linguistic bias"


@dataclass(frozen=True)
class Row:
    """One metric of one task and evaluation set; scores times 100."""

    task: str
    evaluation: str
    metric: str
    mean: float
    deviation: float | None
    """Standard deviation of the sample (n - 1); None for one seed."""
    majority: float
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    best_epochs: tuple[int, ...]


def rows_of(results: Sequence[Mapping[str, Any]], tasks: Mapping[str, Task] = TASKS) -> list[Row]:
    """The rows of all results (see `run_job`), in the order of their tasks.

    The last row is the linguistic-bias score, if there are results of mixed MSGS sets: the mean of their Matthews
    correlations, +1 for linguistic and -1 for surface generalization.
    """
    by_task: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        by_task.setdefault(result["task"], []).append(result)
    rows = []
    for name, found in by_task.items():
        for evaluation in found[0]["scores"]:
            for metric in tasks[name].metrics:
                rows.append(
                    _row(
                        name,
                        evaluation,
                        NAMES[metric],
                        [each["scores"][evaluation][metric] for each in found],
                        found[0]["majority"][evaluation][metric],
                        found,
                    )
                )
    mixed = [by_task[name] for name in MSGS_MIXED if name in by_task]
    if mixed:
        seeds = [seed for seed in _seeds(mixed[0]) if all(seed in _seeds(found) for found in mixed)]
        values = []
        for seed in seeds:
            ours = [each["scores"]["valid"]["mcc"] for found in mixed for each in found if each["seed"] == seed]
            values.append(statistics.fmean(ours))
        if seeds:
            first = [each for each in mixed[0] if each["seed"] in seeds]
            rows.append(_row("msgs", f"{len(mixed)} mixed sets", BIAS, values, 0.0, first))
    return rows


def _seeds(found: Sequence[Mapping[str, Any]]) -> list[int]:
    return [each["seed"] for each in found]


def _row(
    task: str,
    evaluation: str,
    metric: str,
    values: Sequence[float],
    majority: float,
    found: Sequence[Mapping[str, Any]],
) -> Row:
    hundreds = [round(100 * value, 4) for value in values]
    return Row(
        task,
        evaluation,
        metric,
        round(statistics.fmean(hundreds), 4),
        round(statistics.stdev(hundreds), 4) if len(hundreds) > 1 else None,
        round(100 * majority, 4),
        tuple(_seeds(found)),
        tuple(hundreds),
        tuple(each["best"]["epoch"] for each in found),
    )


HEAD = ("task", "set", "metric", "mean", "std", "majority class", "seeds", "best epochs")


def cells(row: Row) -> list[str]:
    """A row as text, under `HEAD`."""
    deviation = "" if row.deviation is None else f"{row.deviation:.2f}"
    shown = [f"{row.mean:.2f}", deviation, f"{row.majority:.2f}", str(len(row.seeds))]
    return [row.task, row.evaluation, row.metric, *shown, " ".join(map(str, row.best_epochs))]


def markdown(rows: Sequence[Row], note: str) -> str:
    """The table in Markdown."""
    lines = [note, "", f"| {' | '.join(HEAD)} |", f"|{'---|' * 3}{'---:|' * 5}"]
    lines += [f"| {' | '.join(cells(row))} |" for row in rows]
    return "\n".join(lines) + "\n"


def csv_text(rows: Sequence[Row]) -> str:
    """The table as CSV, with the score of each seed."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*HEAD, "scores"])
    for row in rows:
        writer.writerow([*cells(row), " ".join(f"{value:.2f}" for value in row.values)])
    return out.getvalue()


def write_table(out: Path, rows: Sequence[Row], note: str) -> None:
    """Write `table.md`, `table.csv` and `table.json`."""
    write_text(out / "table.md", markdown(rows, note))
    write_text(out / "table.csv", csv_text(rows))
    write_json(out / "table.json", {"note": note, "rows": [asdict(row) for row in rows]}, sort_keys=False)


def write_predictions(out: Path, task: Task, seed: int, predictions: Mapping[str, Sequence[int]]) -> None:
    """Write `<task>/predictions.json` of each evaluation set in the layout of the 2025 and 2026 pipelines."""
    for evaluation, classes in predictions.items():
        name = task.name if evaluation == "valid" else f"{task.name}_{evaluation}"
        entries = [{"id": f"{name}_{number}", "pred": each} for number, each in enumerate(classes)]
        path = out / f"seed{seed}" / "finetune" / name / "predictions.json"
        write_json(path, {name: {"predictions": entries}}, sort_keys=False)
