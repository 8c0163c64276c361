"""`composer train.py CONFIG [key=value ...] [--dry-run]`: trains a run config; also `python -m elc_composer.train`."""

from __future__ import annotations

import argparse
import re
import signal
import sys
from collections.abc import Sequence

from composer.utils import dist, get_device

from elc_composer.callbacks import BadLoss, Preemption
from elc_composer.common.addresses import refuse_addresses
from elc_composer.common.errors import ConfigError, DataError
from elc_composer.common.process_group import join_process_group
from elc_composer.common.shipped_configs import config_file
from elc_composer.common.storage import Unreachable
from elc_composer.finetuning.dispatch import is_finetuning
from elc_composer.training.config import load_config
from elc_composer.training.dry_run import dry_run
from elc_composer.training.loop import train

BAD_INPUT, RANK_LOST, BAD_LOSS, INTERRUPTED = 2, 1, 70, 130
"""Exit codes besides 0 and `preemption.EXIT_CODE` (75). Unreachable storage has the code of a lost rank: retry."""

_LOST = re.compile(r"closed by peer|connection reset|socket timeout|Timed out|NCCL|gloo", re.IGNORECASE)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; every failure prints one line and has its exit code."""
    parser = argparse.ArgumentParser(prog="composer train.py", description="Train an ELC-BERT.")
    parser.add_argument("config", help="YAML run config, or yamls:NAME for one of the package's")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="replace the value of a config key")
    parser.add_argument("--dry-run", action="store_true", help="print the planned run, check data and tokenizer, stop")
    options = parser.parse_intermixed_args(arguments)
    preemption = Preemption()
    try:
        refuse_addresses({"config": options.config})
        file = config_file(options.config)
        if is_finetuning(file):
            # Imported here: training a language model needs none of it.
            from elc_composer.finetuning.command import finetune_config

            code = finetune_config(str(file), options.overrides, options.dry_run)
            if code:
                sys.exit(code)
            return
        config = load_config(file, options.overrides)
        refuse_addresses({"run_folder": config.run_folder})
        join_process_group(get_device(None), config.parallelism.dist_timeout)
        if options.dry_run or config.dry_run:
            dry_run(config)
        else:
            train(config, preemption)
    except Unreachable as error:
        _end(f"{error}; rerun the same command to resume from the newest checkpoint", RANK_LOST)
    except (ConfigError, DataError) as error:
        _end(str(error), BAD_INPUT)
    except BadLoss as error:
        _end(f"{error}; the checkpoints were saved before it", BAD_LOSS)
    except (KeyboardInterrupt, SystemExit) as end:
        # Composer's handler of Ctrl-C raises SystemExit.
        if isinstance(end, SystemExit) and end.code != INTERRUPTED:
            raise
        _end("interrupted; rerun the same command to resume from the newest checkpoint", INTERRUPTED)
    except RuntimeError as error:
        if dist.get_world_size() == 1 or not _LOST.search(str(error)):
            raise
        reason = str(error).strip().splitlines()[0]
        _end(
            f"another rank was lost ({reason}); rerun the same command to resume from the newest checkpoint",
            RANK_LOST,
        )
    finally:
        if dist.get_world_size() == 1 and not preemption.preempted:
            preemption.restore()
    if preemption.preempted:
        preemption.leave()


def _end(sentence: str, code: int) -> None:
    if dist.get_world_size() > 1:
        # The launcher sends SIGTERM to the other ranks when one exits; ignore it, so that each keeps its exit code.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print(f"error: {sentence}", file=sys.stderr, flush=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
