"""The command that fine-tunes a model on tasks, several seeds each, and the run of one fine-tuning config.

    python -m elc_composer.finetune MODEL --data DIR --tasks rte mrpc wsc --seeds 3 --preset babylm2025 --out OUT

MODEL is a run folder, a checkpoint, an exported or published folder, or a folder of any transformers encoder. The same
command resumes after a kill. Exit codes: 0 done, 1 a job failed, 2 invalid input.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from composer.utils import dist

from elc_composer.common.addresses import refuse_addresses
from elc_composer.common.errors import ConfigError, DataError, one_line
from elc_composer.common.storage import Unreachable
from elc_composer.finetuning.config import load_finetuning
from elc_composer.finetuning.job import Job
from elc_composer.finetuning.model_source import ModelSource
from elc_composer.finetuning.outputs import PAGE, write_outputs
from elc_composer.finetuning.plan import plan
from elc_composer.finetuning.presets import OVERRIDES, PRESETS
from elc_composer.finetuning.sweep import Outcome, places, run_jobs
from elc_composer.finetuning.table import cells


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parse = argparse.ArgumentParser(prog="python -m elc_composer.finetune", description="Fine-tune a model on tasks.")
    parse.add_argument("model", type=Path, help="run folder, checkpoint, or folder of a transformers encoder")
    parse.add_argument("--data", type=Path, required=True, help="folder of the tasks' files, such as rte.train.jsonl")
    parse.add_argument("--tasks", nargs="+", required=True, metavar="TASK", help="tasks, or the groups glue and msgs")
    parse.add_argument("--seeds", type=int, default=1, metavar="N", help="number of seeds from the preset's on")
    parse.add_argument("--seed", type=int, nargs="+", metavar="SEED", help="these seeds, in place of --seeds")
    parse.add_argument("--preset", default="babylm2025", help=f"{', '.join(PRESETS)} (default: babylm2025)")
    parse.add_argument("--out", type=Path, help="folder of the results; default: finetune-PRESET in the model's folder")
    parse.add_argument("--from-scratch", action="store_true", help="fresh weights in place of the stored ones")
    parse.add_argument("--jobs", type=int, metavar="N", help="processes; default: one per GPU, one on the CPU")
    parse.add_argument("--device", default="auto", help="auto, cpu or gpu")
    parse.add_argument("--train-examples", type=int, metavar="N", help="at most N training examples of each task")
    parse.add_argument("--learning-rate", type=float, help="in place of the preset's")
    for name in ("batch-size", "epochs", "max-length"):
        parse.add_argument(f"--{name}", type=int, metavar="N", help="in place of the preset's")
    parse.add_argument("--dropout", type=float, help="dropout of encoder and head, in place of the model's")
    parse.add_argument("--keep-models", action="store_true", help="keep the weights of each job's best model")
    parse.add_argument("--trust-remote-code", action="store_true", help="run code in the model's folder")
    return parse


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code. An invalid input gives one line before any work starts."""
    options = parser().parse_args(arguments)
    out = options.out or options.model / f"finetune-{options.preset}"
    try:
        refuse_addresses({"model": options.model, "data": options.data, "out": out})
        workers = places(options.device, options.jobs)
        jobs = plan(
            ModelSource(options.model, options.from_scratch, options.trust_remote_code),
            options.data,
            options.tasks,
            preset=options.preset,
            seeds=options.seed or options.seeds,
            out=out,
            train_examples=options.train_examples,
            keep_model=options.keep_models,
            **{name: getattr(options, name) for name in OVERRIDES},
        )
    except (ConfigError, DataError, Unreachable, OSError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    outcomes = run_jobs(jobs, workers, _Progress(len(jobs)))
    return report(out, jobs, outcomes)


def finetune_config(path: str, overrides: Sequence[str], dry_run: bool = False) -> int:
    """Run the one job of a config with a section `finetune`; returns the exit code.

    Raises:
        ConfigError: an invalid config, or more than one process.
        DataError: missing or damaged data.
    """
    section = load_finetuning(path, list(overrides))
    if dist.get_world_size() > 1 or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("fine-tuning runs on one device: launch with -n 1, or use python -m elc_composer.finetune")
    workers = places(section.device, 1)
    jobs = section.jobs()
    if dry_run:
        print(f"{jobs[0].name}: {json.dumps(jobs[0].recipe.as_json())}")
        return 0
    return report(Path(section.run_folder), jobs, run_jobs(jobs, workers, _Progress(1)))


def report(out: Path, jobs: Sequence[Job], outcomes: dict[str, Outcome]) -> int:
    """Write and print the results; returns the exit code."""
    results = {name: result for name, (result, _, _) in outcomes.items() if result is not None}
    failures = {name: error for name, (_, error, _) in outcomes.items() if error is not None}
    rows = write_outputs(out, jobs, results, failures)
    for row in rows:
        task, evaluation, metric, mean, deviation, majority, count, _ = cells(row)
        spread = f" +- {deviation}" if deviation else ""
        print(f"{task} ({evaluation}) {metric}: {mean}{spread}, majority class {majority}, seeds {count}")
    if results:
        print(f"table: {out / 'table.md'}; page: {out / PAGE}")
    for name, error in failures.items():
        print(f"error: {name} failed: {error}", file=sys.stderr)
    return 1 if failures else 0


class _Progress:
    """Prints one line for each job that ends."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.done = 0

    def __call__(self, job: Job, outcome: Outcome) -> None:
        self.done += 1
        result, error, seconds = outcome
        if result is None:
            said = f"failed: {error}"
        else:
            shown = [f"{metric} {100 * result['scores']['valid'][metric]:.2f}" for metric in job.task.metrics]
            said = f"{', '.join(shown)} (epoch {result['best']['epoch']}), {seconds:.0f} s"
        print(f"[{self.done}/{self.count}] {job.name}: {said}", flush=True)
