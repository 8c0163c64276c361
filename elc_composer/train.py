"""One training run, from a YAML file to a folder of results: what `train.py` at the top of the project calls."""

from __future__ import annotations

import argparse
import re
import signal
import sys
from collections.abc import Sequence

from composer.utils import dist, get_device

from elc_composer.callbacks import BadLoss, Preemption
from elc_composer.common.errors import ConfigError, DataError
from elc_composer.common.process_group import join_process_group
from elc_composer.common.storage import Unreachable
from elc_composer.training.config import load_config
from elc_composer.training.dry_run import dry_run
from elc_composer.training.loop import train

BAD_INPUT, RANK_LOST, BAD_LOSS, INTERRUPTED = 2, 1, 70, 130  # storage that does not answer ends like a lost rank
"""Exit codes, beside 0 and `preemption.EXIT_CODE` (75)."""

_LOST = re.compile(r"closed by peer|connection reset|socket timeout|Timed out|NCCL|gloo", re.IGNORECASE)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train as `train.py CONFIG [key=value ...] [--dry-run]` says; every end but success has one line and a code."""
    parser = argparse.ArgumentParser(prog="composer train.py", description="Train an ELC-BERT.")
    parser.add_argument("config", help="YAML run config, for example yamls/elc_strict.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="replace a value of the config")
    parser.add_argument(
        "--dry-run", action="store_true", help="print what would be trained, check data and tokenizer, stop"
    )
    options = parser.parse_intermixed_args(arguments)
    preemption = Preemption()
    try:
        config = load_config(options.config, options.overrides)
        join_process_group(get_device(None), config.parallelism.dist_timeout)
        if options.dry_run or config.dry_run:
            dry_run(config)
        else:
            train(config, preemption)
    except Unreachable as error:
        _end(f"{error}; the same command tries again, from the newest checkpoint", RANK_LOST)
    except (ConfigError, DataError) as error:
        _end(str(error), BAD_INPUT)
    except BadLoss as error:
        _end(f"{error}; the checkpoints are from before it", BAD_LOSS)
    except (KeyboardInterrupt, SystemExit) as end:
        # Composer's own handler of Ctrl-C raises the latter.
        if isinstance(end, SystemExit) and end.code != INTERRUPTED:
            raise
        _end("interrupted; the same command continues from the newest checkpoint", INTERRUPTED)
    except RuntimeError as error:
        if dist.get_world_size() == 1 or not _LOST.search(str(error)):
            raise
        reason = str(error).strip().splitlines()[0]
        _end(f"another rank is gone ({reason}); the same command continues from the newest checkpoint", RANK_LOST)
    finally:
        if dist.get_world_size() == 1 and not preemption.preempted:
            preemption.restore()
    if preemption.preempted:
        preemption.leave()


def _end(sentence: str, code: int) -> None:
    if dist.get_world_size() > 1:
        # A launcher that sees one rank end sends this to the others; the code must stay theirs.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print(f"error: {sentence}", file=sys.stderr, flush=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
