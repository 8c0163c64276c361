"""`elc-train CONFIG [key=value ...] [-n N] [--dry-run]`: checks a run in this process, then trains on N ranks.

Also `python -m elc_composer.launch_training`. With one rank this process trains; with more, Composer's launcher starts
`python -m elc_composer.train` N times. On several machines, set WORLD_SIZE, NODE_RANK, MASTER_ADDR and MASTER_PORT, as
for `composer`. In a process that a launcher started (RANK is set), it trains as that rank.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from elc_composer.common.addresses import refuse_addresses
from elc_composer.common.errors import ConfigError, DataError
from elc_composer.common.shipped_configs import config_file
from elc_composer.finetuning.dispatch import is_finetuning

BAD_INPUT, UNREACHABLE, INTERRUPTED = 2, 1, 130
_RANK_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code of the run, those of docs/checkpoints.md."""
    parser = argparse.ArgumentParser(prog="elc-train", description="Train an ELC-BERT on the devices of this machine.")
    parser.add_argument("config", metavar="CONFIG", help="YAML run config, or yamls:NAME for one of the package's")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="replace the value of a config key")
    parser.add_argument("-n", "--nproc", type=int, metavar="N", help="processes; default: one per GPU, one on the CPU")
    parser.add_argument("--dry-run", action="store_true", help="print the planned run, check data and tokenizer, stop")
    options = parser.parse_intermixed_args(arguments)
    if options.nproc is not None and options.nproc < 1:
        parser.error(f"-n {options.nproc}: it must be 1 or more")
    command = [options.config, *options.overrides, *["--dry-run"] * options.dry_run]
    try:
        file = config_file(options.config)
        refuse_addresses({"config": options.config})
        finetuning = is_finetuning(file)
        if finetuning and (options.nproc or 1) > 1:
            raise ConfigError(f"-n {options.nproc}: fine-tuning runs on one device; leave -n out")
    except ConfigError as error:
        return _failed(str(error), BAD_INPUT)
    if finetuning or "RANK" in os.environ:
        return _train_here(command)
    local, ranks = _processes(options.nproc)
    if ranks == 1:
        return _train_here(command)
    try:
        code = check(file, options.overrides, ranks)
        from elc_composer.launch import launch
    except (KeyboardInterrupt, SystemExit):
        # Composer's handler of Ctrl-C raises SystemExit.
        return _failed("interrupted before training started", INTERRUPTED)
    if code:
        return code
    if options.dry_run:
        with _as_one_rank():
            return _train_here(command)
    return launch(["-n", str(local), "-m", "elc_composer.train", *command])


def check(file: Path, overrides: Sequence[str], ranks: int) -> int:
    """Check in this process what `ranks` ranks would check; returns an exit code, after one line if it is not 0."""
    # Imported here, because they take seconds, and --help needs none of them.
    from elc_composer.common.storage import Unreachable
    from elc_composer.training.checks import check_devices, check_run_folder, check_stage
    from elc_composer.training.config import load_config
    from elc_composer.training.model_config import elc_config
    from elc_composer.training.prepare import prepare_run
    from elc_composer.training.stages import plan_stages

    try:
        config = load_config(file, overrides)
        refuse_addresses({"run_folder": config.run_folder})
        model = elc_config(config.model)
        for stage in plan_stages(config.stages, config.max_steps):
            check_stage(stage, model, ranks)
        with _as_one_rank():
            if not config.dry_run:
                check_devices(config, ranks)
                check_run_folder(Path(config.run_folder))
            prepare_run(config)
    except Unreachable as error:
        return _failed(f"{error}; rerun the same command", UNREACHABLE)
    except (ConfigError, DataError) as error:
        return _failed(str(error), BAD_INPUT)
    return 0


def _train_here(command: list[str]) -> int:
    try:
        from elc_composer.train import main as train
    except KeyboardInterrupt:
        return _failed("interrupted before training started", INTERRUPTED)
    train(command)
    return 0


def _processes(asked: int | None) -> tuple[int, int]:
    """Processes on this machine and on all, chosen as Composer's launcher does."""
    environment = {name: int(os.environ.get(name, 0)) for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE")}
    local = asked or environment["LOCAL_WORLD_SIZE"]
    if not local:
        import torch

        local = max(1, torch.cuda.device_count())
    several_machines = environment["WORLD_SIZE"] not in (0, environment["LOCAL_WORLD_SIZE"])
    return local, environment["WORLD_SIZE"] if several_machines else local


@contextlib.contextmanager
def _as_one_rank() -> Iterator[None]:
    """Hide the number of ranks from Composer, which would wait for the others."""
    hidden = {name: os.environ.pop(name) for name in _RANK_VARIABLES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _failed(sentence: str, code: int) -> int:
    print(f"error: {sentence}", file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
