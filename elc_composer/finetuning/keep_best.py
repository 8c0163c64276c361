"""Callback that keeps the best model of a fine-tuning run, its predictions, and stops after too many worse ones."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, cast

import torch
from composer.core import Callback, State
from composer.loggers import Logger

from elc_composer.common.files import atomic_file
from elc_composer.common.json_files import parse_json
from elc_composer.finetuning.composer_model import ClassifierComposerModel


class KeepBest(Callback):
    """Writes the weights of the best evaluation to `path`; a later one must be strictly better.

    Args:
        path: file of the weights (a state dict).
        metric: metric that is compared; larger is better.
        patience: number of evaluations in a row without an improvement of more than `threshold` over the best before
            them, after which training stops, as transformers' EarlyStoppingCallback; None: never.
        threshold: see `patience`.
    """

    def __init__(self, path: Path, metric: str, patience: int | None = None, threshold: float = 0.0) -> None:
        self.path = path
        self.metric = metric
        self.patience = patience
        self.threshold = threshold
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] | None = None
        """Scores, epoch, step and predictions (in the order of the file) of the best evaluation."""
        self._waited = 0
        self._collected: dict[int, int] = {}

    def state_dict(self) -> dict[str, Any]:
        """Everything as JSON text, for checkpoints."""
        return {"kept": json.dumps({"history": self.history, "best": self.best, "waited": self._waited})}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        kept = parse_json(state["kept"], "best model of the checkpoint")
        self.history, self.best, self._waited = kept["history"], kept["best"], kept["waited"]

    def eval_start(self, state: State, logger: Logger) -> None:
        """Begin a new evaluation."""
        self._collected = {}

    def eval_batch_end(self, state: State, logger: Logger) -> None:
        """Collect the predicted classes of a batch."""
        predicted = cast(Any, state.outputs).logits.argmax(-1).tolist()
        self._collected.update(zip(state.batch["index"].tolist(), predicted))

    def eval_end(self, state: State, logger: Logger) -> None:
        """Compare with the best evaluation."""
        scores = {name: float(metric.compute()) for name, metric in state.eval_metrics["valid"].items()}
        # The epoch of an evaluation at an epoch's end has ended; within an epoch, it is the current one.
        epoch = int(state.timestamp.epoch) + (1 if int(state.timestamp.batch_in_epoch) else 0)
        found = {"epoch": epoch, "step": int(state.timestamp.batch), "scores": scores}
        self.history.append(found)
        score = scores[self.metric]
        before = None if self.best is None else self.best["scores"][self.metric]
        improved = before is None or (score > before and score - before > self.threshold)
        self._waited = 0 if improved else self._waited + 1
        if before is None or score > before:
            predictions = [self._collected[index] for index in sorted(self._collected)]
            self.best = {**found, "predictions": predictions}
            with atomic_file(self.path) as file:
                torch.save(cast(ClassifierComposerModel, state.model).model.state_dict(), file)
        if self.patience is not None and self._waited >= self.patience:
            state.stop_training()


class EpochTimer(Callback):
    """Measures the seconds of each epoch's training, evaluations excluded."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._since = 0.0
        self._spent = 0.0

    def epoch_start(self, state: State, logger: Logger) -> None:
        """Start the clock."""
        self._since, self._spent = time.perf_counter(), 0.0

    def eval_start(self, state: State, logger: Logger) -> None:
        """Stop the clock."""
        self._spent += time.perf_counter() - self._since

    def eval_end(self, state: State, logger: Logger) -> None:
        """Start it again."""
        self._since = time.perf_counter()

    def epoch_end(self, state: State, logger: Logger) -> None:
        """Note the epoch; its evaluation follows."""
        self.seconds.append(self._spent + time.perf_counter() - self._since)
