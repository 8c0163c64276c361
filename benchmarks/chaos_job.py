"""The job of benchmarks/chaos.py: train.py, which also records each batch's sample ids and the step.

chaos_job.py FOLDER CONFIG [key=value ...]
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from composer import Callback, State
from composer.loggers import Logger
from composer.utils import dist

from elc_composer import train
from elc_composer.training import loop


class Notes(Callback):
    """Appends `[step, sample ids]` of this rank's batches to `FOLDER/<rank>.jsonl`; a killed process loses none."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / f"{dist.get_global_rank()}.jsonl"

    def note(self, *values: Any) -> None:
        with open(self.file, "a") as file:
            file.write(json.dumps(values) + "\n")

    def fit_start(self, state: State, logger: Logger) -> None:
        self.note("start", int(state.timestamp.batch), os.getpid())

    def batch_start(self, state: State, logger: Logger) -> None:
        self.note(int(state.timestamp.batch), state.batch["sample_ids"].tolist())


def main() -> None:
    folder = Path(sys.argv[1])
    plain = loop.build_callbacks

    def callbacks(*arguments: Any) -> list[Callback]:
        return [*plain(*arguments), Notes(folder)]

    with mock.patch.object(loop, "build_callbacks", callbacks):
        train.main(sys.argv[2:])


if __name__ == "__main__":
    main()
