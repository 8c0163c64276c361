"""Stop before a loss that is no number, or far too large, gets into a checkpoint; say which samples it came from."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from statistics import median
from typing import Any

import torch
from composer.core import Callback, State
from composer.loggers import Logger
from composer.utils import dist
from torch.distributed.tensor import DTensor

from elc_composer.callbacks.measuring.record_files import run_path
from elc_composer.common.errors import ConfigError

FILE = "bad_batches.jsonl"


class OnBadLoss(Enum):
    """What follows a bad loss."""

    stop = "stop"
    roll_back = "roll_back"


class BadLoss(RuntimeError):
    """A loss, or weights, that training cannot go on from.

    `step` is the optimizer step, from 0, whose batch is at fault as far as one can tell.
    """

    def __init__(self, sentence: str, step: int) -> None:
        super().__init__(sentence)
        self.step = step


@dataclass(eq=False)
class LossGuard(Callback):
    """Ends training with `BadLoss` at the first loss that is not finite, or exceeds `factor` times the usual.

    That happens before the batch's checkpoint is due, and on every rank after the same batch, since Composer has
    averaged the loss over the ranks and fetched it from the device already: watching costs nothing. A step can also
    ruin the weights under a loss that is still finite; a saver that calls `check_weights` first never stores these.

    In `folder`, `bad_batches.jsonl` gets `{"step", "loss", "reason", "sample_ids"}`, one list of ids for each rank, if
    batches carry them as `sample_ids` (`[B]`, int64).

    Rolling back is for the program around the Trainer: catch `BadLoss`, add its step to a new guard's `skipped` with
    `leave_out`, and train again from the last checkpoint. A step that is skipped sees its batch, but leaves the weights
    and the optimizer's moments as they are.

    Raises:
        ConfigError: a factor, window or number out of range.
    """

    on_bad_loss: OnBadLoss = OnBadLoss.stop
    """`stop`; or `roll_back`: go on from the last checkpoint, without the bad batch's gradient."""
    factor: float | None = None
    """A loss above this many times the median of the last `window` is bad, too; null: NaN and infinity only."""
    window: int = 100
    """Number of recent losses whose median `factor` refers to."""
    max_roll_backs: int = 3
    """Stop all the same when that many have not helped."""
    folder: str | None = "runs/{run_name}"
    """Folder of `bad_batches.jsonl`, with Composer's placeholders; null: no file."""

    def __post_init__(self) -> None:
        """Nothing is skipped yet."""
        if self.factor is not None and self.factor <= 1:
            raise ConfigError(f"loss_guard.factor is {self.factor}; it must be above 1, or null")
        if self.window < 1 or self.max_roll_backs < 0:
            raise ConfigError(
                f"loss_guard.window is {self.window} and max_roll_backs {self.max_roll_backs}; they must be at least "
                "1 and 0"
            )
        self.skipped: set[int] = set()
        self._losses: deque[float] = deque(maxlen=self.window)
        self._ids: Any = None

    @staticmethod
    def leave_out(skipped: set[int], step: int) -> str:
        """Add a step to those that are skipped, after `BadLoss` at it; returns the added ones as text.

        Where the step, or the one before, is skipped already, the damage may have come from further back, from a
        gradient that overflowed under a loss that was still finite: then the step before those is left out as well.
        """
        added = {step}
        if skipped & {step, step - 1}:
            earlier = step if step in skipped else step - 1
            while earlier in skipped:
                earlier -= 1
            added.add(max(earlier, 0))
        added -= skipped
        skipped |= added
        return ", ".join(map(str, sorted(added)))

    def after_dataloader(self, state: State, logger: Logger) -> None:
        """Remember the samples of the batch that comes."""
        self._ids = state.batch.get("sample_ids") if isinstance(state.batch, Mapping) else None

    def after_train_batch(self, state: State, logger: Logger) -> None:
        """Take the gradient away where the step is left out; the optimizer steps right after this."""
        if int(state.timestamp.batch) in self.skipped:
            state.model.zero_grad(set_to_none=True)

    def batch_end(self, state: State, logger: Logger) -> None:
        """Judge the batch's loss.

        Raises:
            BadLoss: on every rank alike.
        """
        step = int(state.timestamp.batch) - 1
        loss = (state.total_loss_dict or {}).get("loss/train/total")
        if loss is None or step in self.skipped:
            return
        usual = median(self._losses) if len(self._losses) == self.window else None
        if not math.isfinite(loss):
            self._report(state, step, loss, f"the loss of step {step} is {loss}")
        elif self.factor is not None and usual is not None and loss > self.factor * usual:
            reason = f"the loss of step {step} is {loss:.4g}, over {self.factor:g} times the usual {usual:.4g}"
            self._report(state, step, loss, reason)
        self._losses.append(loss)

    def check_weights(self, state: State) -> None:
        """To be called on every rank before weights are stored.

        Raises:
            BadLoss: if some are no numbers.
        """
        finite = torch.ones((), dtype=torch.int64, device=next(state.model.parameters()).device)
        for parameter in state.model.parameters():
            local = parameter.to_local() if isinstance(parameter, DTensor) else parameter
            finite *= torch.isfinite(local.detach()).all()
        dist.all_reduce(finite, reduce_operation="MIN")
        if not finite.item():
            step = int(state.timestamp.batch) - 1
            loss = (state.total_loss_dict or {}).get("loss/train/total", math.nan)
            self._report(state, step, loss, f"step {step} turned weights into NaN or infinity")

    def _report(self, state: State, step: int, loss: float, reason: str) -> None:
        ids = dist.all_gather_object(None if self._ids is None else self._ids.tolist())
        path = run_path(self.folder if self.folder is None else f"{self.folder}/{FILE}", state)
        record = {"step": step, "loss": str(loss), "reason": reason, "sample_ids": ids}
        where = ""
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(record) + "\n")
                where = f"; the ids of its samples are in {path}"
            except OSError as error:
                where = f"; the ids of its samples are {ids}, {path} cannot be written ({error.strerror})"
        raise BadLoss(reason + where, step)

    def state_dict(self) -> dict[str, Any]:
        """The losses that the next one is compared with."""
        return {"losses": list(self._losses)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on comparing where the checkpoint was saved."""
        self._losses = deque(state["losses"], maxlen=self.window)
