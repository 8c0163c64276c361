"""One training run, from a YAML file to a folder of results: what `train.py` at the top of the project calls."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import cast

from composer import DataSpec, Trainer
from composer.utils import dist, get_device

from elc_composer.build import build_train_data, build_trainer
from elc_composer.config import RunConfig, load_config
from elc_composer.data.loader import WholeEpochLoader
from elc_composer.dry_run import describe_run
from elc_composer.errors import ConfigError, DataError
from elc_composer.parallelism import check_parallelism, device_kind
from elc_composer.prepare import Run, elc_config, prepare_run
from elc_composer.stages import enter_stage, fit_stage, stage_at
from elc_composer.strict_yaml import to_yaml


def main(arguments: Sequence[str] | None = None) -> None:
    """Train as `train.py CONFIG [key=value ...] [--dry-run]` says; bad input ends with one line and exit code 2."""
    parser = argparse.ArgumentParser(prog="composer train.py", description="Train an ELC-BERT.")
    parser.add_argument("config", help="YAML run config, for example yamls/elc_strict.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="replace a value of the config")
    parser.add_argument(
        "--dry-run", action="store_true", help="print what would be trained, check data and tokenizer, stop"
    )
    options = parser.parse_intermixed_args(arguments)
    try:
        config = load_config(options.config, options.overrides)
        dist.initialize_dist(get_device(None), config.parallelism.dist_timeout)
        if options.dry_run or config.dry_run:
            dry_run(config)
        else:
            train(config)
    except (ConfigError, DataError) as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(2)


def dry_run(config: RunConfig) -> None:
    """Print what a run would be, then check everything but this machine's devices, which only a note is spent on."""
    first = dist.get_global_rank() == 0
    if first:
        print(describe_run(config), flush=True)
    prepare_run(config)
    try:
        check_devices(config)
        note = "ready to train"
    except ConfigError as error:
        note = f"but not on this machine: {error}"
    if first:
        print(f"data and tokenizer fit the model: {note}")


def check_devices(config: RunConfig) -> None:
    """Refuse what this machine's devices cannot run.

    Raises:
        ConfigError: naming the key and what to set instead.
    """
    check_parallelism(
        config.parallelism, config.precision, device_kind(), dist.get_world_size(), elc_config(config).kernels
    )


def train(config: RunConfig) -> Trainer:
    """Run every stage that is still to do, from the newest checkpoint if there is one.

    Raises:
        ConfigError: for a config that cannot work, before anything is built.
        DataError: for data that do not fit, before anything is built.
    """
    check_devices(config)
    run = prepare_run(config)
    # A checkpoint at a border holds the state of the stage that ended there, so that stage's loader takes it.
    first = stage_at(run.plan, max(run.first_step - 1, 0))
    data = build_train_data(run, first)
    trainer = build_trainer(run, data, first)
    save_run_files(run)
    if config.evaluators.before_training and run.first_step == 0:
        trainer.eval()
    fit_stage(trainer, first)
    for stage in run.plan[first.index + 1 :]:
        close_loader(data)
        data = build_train_data(run, stage)
        enter_stage(trainer)
        fit_stage(trainer, stage, data)
    close_loader(data)
    trainer.close()
    return trainer


def close_loader(data: DataSpec) -> None:
    """End a loader's workers at once; left to the garbage collector, each takes seconds."""
    cast(WholeEpochLoader, data.dataloader).close()


def save_run_files(run: Run) -> None:
    """Write what explains the run into its folder: resolved config, the model's own config, and the tokenizer."""
    if dist.get_global_rank() == 0:
        run.folder.mkdir(parents=True, exist_ok=True)
        (run.folder / "config.yaml").write_text(to_yaml(run.config))
        (run.folder / "model_config.json").write_text(run.model.to_json_string())
        run.tokenizer.save_pretrained(run.folder / "tokenizer")
