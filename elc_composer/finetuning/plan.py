"""Checks a fine-tuning command before any work and turns it into jobs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from elc_composer.common.errors import ConfigError
from elc_composer.finetuning.files import TaskFiles, find_files, read_examples
from elc_composer.finetuning.job import Job
from elc_composer.finetuning.model_source import ModelSource, check_fit
from elc_composer.finetuning.presets import SEEDS, Recipe, recipe
from elc_composer.finetuning.tasks import Task, choose

JOBS = "jobs"


def plan(
    source: ModelSource,
    data: Path,
    tasks: Sequence[str | Task],
    *,
    preset: str,
    seeds: Sequence[int] | int,
    out: Path,
    files: TaskFiles | None = None,
    train_examples: int | None = None,
    keep_model: bool = False,
    **overrides: Any,
) -> list[Job]:
    """The jobs of all tasks and seeds, task by task.

    Args:
        source: the model.
        data: folder of the tasks' files.
        tasks: names of tasks or groups, or a task of one's own.
        preset: name of a preset.
        seeds: the seeds, or their number, counted from the preset's.
        out: folder of the sweep.
        files: the files of the only task, in place of those found in `data`.
        train_examples: at most this many training examples of each task.
        keep_model: keep the weights of the best model.
        **overrides: settings of the preset, see `OVERRIDES`.

    Raises:
        ConfigError: an unknown task or preset, a number out of range, a model that cannot be loaded or does not fit.
        DataError: a file is missing or damaged, or a label is outside the set.
    """
    named = choose([each for each in tasks if isinstance(each, str)])
    chosen = [*named, *(each for each in tasks if isinstance(each, Task))]
    recipes = [recipe(preset, task, train_examples, **overrides) for task in chosen]
    if isinstance(seeds, int):
        if seeds < 1:
            raise ConfigError(f"seeds is {seeds}, must be at least 1")
        seeds = [SEEDS[preset] + number for number in range(seeds)]
    config, tokenizer = source.config(), source.tokenizer()
    for settings in recipes:
        check_fit(source, config, tokenizer, settings)
    found = [files or find_files(data, task) for task in chosen]
    for task, own, settings in zip(chosen, found, recipes):
        _check_examples(task, own, settings)
    source.build(recipes[0], chosen[0].classes, seeds[0])
    model = source.fingerprint()
    jobs = []
    for task, own, settings in zip(chosen, found, recipes):
        digests = tuple(own.digests().items())
        for seed in seeds:
            folder = out / JOBS / f"{task.name}-seed{seed}"
            jobs.append(Job(source, model, task, own, digests, settings, seed, folder, keep_model))
    for job in jobs:
        job.finished()
    return jobs


def _check_examples(task: Task, files: TaskFiles, settings: Recipe) -> None:
    train = read_examples(files.train, task, scored=False, limit=settings.train_limit)
    if settings.steps_per_epoch(len(train)) < 1:
        raise ConfigError(
            f"task {task.name}: {len(train)} training examples are fewer than a batch of {settings.batch_size}, and "
            "incomplete batches are dropped: set a smaller batch_size"
        )
    for path in files.evaluation.values():
        read_examples(path, task, scored=True)
