"""train.py with something done to it: `disturbed_job.py '{"record": DIR, "faults": [...]}' CONFIG [key=value ...]`.

A fault is {"step": n, "rank": r, "at": callback method or "saving", "do": signal name, "nan", "full"}: at the n-th step
(from 1, at the named event) the rank r sends itself a signal, makes the loss NaN, or finds the disk full. Every step's
sample ids go to DIR/<step>.<rank>of<ranks>.json.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from composer import Callback, Event, State
from composer.loggers import Logger
from composer.utils import dist

from elc_composer import train
from elc_composer.training import build_trainer as build
from elc_composer.training import checks, loop


class Disturbance(Callback):
    def __init__(self, record: Path | None, faults: list[dict[str, Any]]) -> None:
        self.record = record
        self.faults = faults

    def run_event(self, event: Event, state: State, logger: Logger) -> None:
        done = int(state.timestamp.batch)
        ended = event in (Event.BATCH_END, Event.BATCH_CHECKPOINT, Event.EVAL_START)
        step = done if ended else done + 1
        if event is Event.AFTER_DATALOADER and self.record is not None:
            name = f"{step}.{dist.get_global_rank()}of{dist.get_world_size()}.json"
            (self.record / name).write_text(json.dumps(state.batch["sample_ids"].tolist()))
        for fault in self.faults:
            if (fault["at"], fault["step"], fault.get("rank", 0)) == (event.value, step, dist.get_global_rank()):
                self.act(fault["do"], state)

    def act(self, deed: str, state: State) -> None:
        if deed == "nan":
            state.loss *= float("nan")
        elif deed == "poison":
            next(state.model.parameters()).grad.fill_(float("inf"))  # type: ignore[union-attr]
        elif deed == "huge":
            state.loss *= 1e4
        else:
            os.kill(os.getpid(), getattr(signal, deed))


def disturbed_save(faults: list[dict[str, Any]]) -> Any:
    whole = torch.save

    def save(content: Any, file: Any, *args: Any, **options: Any) -> None:
        for fault in faults:
            if fault["at"] == "saving" and f"ba{fault['step']}-" in str(getattr(file, "name", file)):
                if fault["do"] == "full":
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                file.write(b"half of it")
                file.flush()
                os.kill(os.getpid(), getattr(signal, fault["do"]))
        whole(content, file, *args, **options)

    return save


def main() -> None:
    plan = json.loads(sys.argv[1])
    os.environ.update(plan.get("environment", {}))
    record = Path(plan["record"]) if "record" in plan else None
    if record is not None:
        record.mkdir(exist_ok=True)
    faults = plan.get("faults", [])
    plain_callbacks = build.build_callbacks

    def callbacks(*args: Any) -> list[Callback]:
        return [Disturbance(record, faults), *plain_callbacks(*args)]

    def loss(self: Any, outputs: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        return outputs.loss / plan.get("divide_loss", 1)

    with (
        mock.patch.object(loop, "build_callbacks", callbacks),
        mock.patch.object(build.ElcComposerModel, "loss", loss),
        mock.patch.object(checks, "device_kind", return_value=plan.get("device", "cpu")),
        mock.patch("torch.save", disturbed_save(faults)),
        mock.patch("torch.cuda.current_device", return_value=torch.device("cpu")),
    ):
        train.main(sys.argv[2:])


if __name__ == "__main__":
    main()
