"""One training run, from a YAML file to a folder of results: what `train.py` at the top of the project calls."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from composer import Trainer
from composer.core import DataSpec, Time
from composer.utils import dist, get_device

from elc_composer.build import build_train_data, build_trainer
from elc_composer.config import RunConfig, load_config
from elc_composer.dry_run import describe_run
from elc_composer.errors import ConfigError, DataError
from elc_composer.prepare import prepare_run
from elc_composer.stages import Stage, stage_at


def main(arguments: Sequence[str] | None = None) -> None:
    """Train as `train.py CONFIG [key=value ...] [--dry-run]` says; bad input ends with one line and exit code 2."""
    parser = argparse.ArgumentParser(prog="composer train.py", description="Train an ELC-BERT.")
    parser.add_argument("config", help="YAML run config, for example yamls/elc_strict.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="replace a value of the config")
    parser.add_argument(
        "--dry-run", action="store_true", help="print what would be trained, check data and tokenizer, stop"
    )
    options = parser.parse_args(arguments)
    try:
        config = load_config(options.config, options.overrides)
        if options.dry_run or config.dry_run:
            print(describe_run(config))
            prepare_run(config)
            print("data and tokenizer fit the model: ready to train")
        else:
            train(config)
    except (ConfigError, DataError) as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(2)


def train(config: RunConfig) -> Trainer:
    """Run every stage that is still to do, from the newest checkpoint if there is one.

    Raises:
        ConfigError: for a config that cannot work, before anything is built.
        DataError: for data that do not fit, before anything is built.
    """
    dist.initialize_dist(get_device(None), config.parallelism.dist_timeout)
    run = prepare_run(config)
    # A checkpoint at a border holds the state of the stage that ended there, so that stage's loader takes it.
    first = stage_at(run.plan, max(run.first_step - 1, 0))
    trainer = build_trainer(run, build_train_data(run, first), first)
    fit_stage(trainer, first)
    for stage in run.plan[first.index + 1 :]:
        enter_stage(trainer)
        fit_stage(trainer, stage, build_train_data(run, stage))
    trainer.close()
    return trainer


def enter_stage(trainer: Trainer) -> None:
    """Let the next stage's loader start with its first batch.

    The border starts an epoch: otherwise Composer would skip as many of the new batches as the old epoch had. What a
    checkpoint said of the old loader is dropped.
    """
    if int(trainer.state.timestamp.batch_in_epoch) != 0:
        trainer.state.timestamp = trainer.state.timestamp.to_next_epoch()
    trainer.state.dataset_resumption.pop("train", None)


def fit_stage(trainer: Trainer, stage: Stage, data: DataSpec | None = None) -> None:
    """Train to the stage's last step, on `data` or on the loader that the trainer was built with."""
    remaining = stage.last_step - int(trainer.state.timestamp.batch)
    if remaining > 0:
        trainer.fit(
            train_dataloader=data,
            duration=Time(remaining, "ba"),
            device_train_microbatch_size=stage.device_train_microbatch_size,
        )
