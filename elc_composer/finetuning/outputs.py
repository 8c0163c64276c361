"""Writes everything that a sweep gives: table, predictions, layer weights and the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from elc_composer.common.files import write_json
from elc_composer.common.json_files import read_object
from elc_composer.finetuning.job import Job
from elc_composer.finetuning.page import write_page
from elc_composer.finetuning.table import Row, rows_of, write_predictions, write_table

PAGE = "report.html"


def write_outputs(
    out: Path, jobs: Sequence[Job], results: Mapping[str, dict[str, Any]], failures: Mapping[str, str]
) -> list[Row]:
    """Write the outputs of the finished jobs into `out`; equal results give equal files."""
    done = [job for job in jobs if job.name in results]
    found = [results[job.name] for job in done]
    rows = rows_of(found, {job.task.name: job.task for job in jobs})
    note = describe(jobs)
    write_table(out, rows, note)
    for job in done:
        write_predictions(out / "predictions", job.task, job.seed, read_object(job.folder / "predictions.json"))
    weights = {
        job.name: results[job.name]["layer_weights"] for job in done if results[job.name]["layer_weights"]["before"]
    }
    if weights:
        write_json(out / "layer_weights.json", weights, sort_keys=False)
    if done:
        write_page(
            out / PAGE,
            f"Fine-tuning of {jobs[0].source.path.name}",
            note,
            rows,
            found,
            [job.folder for job in done],
            failures,
        )
    return rows


def describe(jobs: Sequence[Job]) -> str:
    """One sentence about model and settings."""
    first = jobs[0]
    weights = "fresh weights" if first.source.from_scratch else "stored weights"
    chosen = "the best evaluation of each run on the validation set itself, as in the pipelines"
    return (
        f"Preset {first.recipe.preset}, {first.source.path.name} with {weights}; scores times 100, of {chosen}; the "
        "majority class is that of the training set."
    )
