"""Stops training at a loss that is NaN, infinite or far too large, before it reaches a checkpoint."""

from __future__ import annotations

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

from elc_composer.callbacks.measuring.record_files import RecordFile, run_path
from elc_composer.common import run_folder
from elc_composer.common.errors import ConfigError


class OnBadLoss(Enum):
    """Reaction to a bad loss."""

    stop = "stop"
    roll_back = "roll_back"


class BadLoss(RuntimeError):
    """A loss, or weights, from which training cannot continue.

    `step` is the optimizer step (from 0) whose batch most likely caused it.
    """

    def __init__(self, sentence: str, step: int) -> None:
        super().__init__(sentence)
        self.step = step


@dataclass(eq=False)
class LossGuard(Callback):
    """Ends training with `BadLoss` at the first loss that is not finite, or above `factor` times the usual loss.

    This happens before the batch's checkpoint is due, and on every rank after the same batch: Composer has already
    averaged the loss over the ranks and fetched it from the device, so that checking it costs nothing. A step can also
    damage the weights while the loss is finite: a saver that calls `check_weights` first never stores such weights.

    `bad_batches.jsonl` in `folder` gets `{"step", "loss", "reason", "sample_ids"}`, with one list of ids per rank if
    batches have `sample_ids` (`[B]`, int64).

    Rolling back is up to the program that runs the Trainer: catch `BadLoss`, add its step to a new guard's `skipped`
    with `leave_out`, and train again from the last checkpoint. A skipped step reads its batch, but does not change the
    weights or the optimizer's moments.

    Raises:
        ConfigError: factor, window or max_roll_backs out of range.
    """

    on_bad_loss: OnBadLoss = OnBadLoss.stop
    """`stop`, or `roll_back`: continue from the last checkpoint without the gradient of the bad batch."""
    factor: float | None = None
    """A loss above `factor` times the median of the last `window` losses is bad; null: only NaN and infinity are."""
    window: int = 100
    """Number of recent losses whose median `factor` refers to."""
    max_roll_backs: int = 3
    """Stop after this many roll-backs."""
    folder: str | None = "runs/{run_name}"
    """Folder of `bad_batches.jsonl`, with Composer's placeholders; null: no file."""

    def __post_init__(self) -> None:
        """Check the settings."""
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
        """Add a step to `skipped` after `BadLoss` at this step; returns the added steps as text.

        If this step or the previous one is skipped already, an earlier gradient may have overflowed while the loss was
        still finite. The step before the skipped ones is then added as well.
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
        """Store the sample ids of the batch."""
        self._ids = state.batch.get("sample_ids") if isinstance(state.batch, Mapping) else None

    def after_train_batch(self, state: State, logger: Logger) -> None:
        """Remove the gradient of a skipped step; the optimizer steps right after this event."""
        if int(state.timestamp.batch) in self.skipped:
            state.model.zero_grad(set_to_none=True)

    def batch_end(self, state: State, logger: Logger) -> None:
        """Check the batch's loss.

        Raises:
            BadLoss: on every rank.
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
        """Check the weights before they are stored; every rank must call this.

        Raises:
            BadLoss: if some weights are NaN or infinite.
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
        folder = run_path(self.folder, state)
        where = ""
        if folder is not None:
            file = RecordFile(folder / run_folder.BAD_BATCHES)
            written = file.append({"step": step, "loss": str(loss), "reason": reason, "sample_ids": ids})
            where = f"; the ids of its samples are {f'in {file.path}' if written else ids}"
        raise BadLoss(reason + where, step)

    def state_dict(self) -> dict[str, Any]:
        """The losses that the next one is compared with."""
        return {"losses": list(self._losses)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the losses of a checkpoint."""
        self._losses = deque(state["losses"], maxlen=self.window)
