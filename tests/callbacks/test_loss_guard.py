"""LossGuard: bad losses end training before the checkpoint; sample ids; skipped steps."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from composer import Callback, State
from composer.loggers import Logger
from torch.distributed import checkpoint

from elc_composer.callbacks import BadLoss, LossGuard
from elc_composer.checkpoints.save import CheckpointWriter
from elc_composer.common.errors import ConfigError
from tests.callbacks.toys import ToyElc, batches, trainer


class Spoil(Callback):
    """Multiplies the loss of one step (from 0)."""

    def __init__(self, step: int, factor: float) -> None:
        self.step = step
        self.factor = factor

    def after_loss(self, state: State, logger: Logger) -> None:
        if int(state.timestamp.batch) == self.step:
            state.loss *= self.factor  # type: ignore[operator]


class Overflow(Callback):
    """Makes one step's gradient infinite under a loss that is finite."""

    def __init__(self, step: int) -> None:
        self.step = step

    def after_train_batch(self, state: State, logger: Logger) -> None:
        if int(state.timestamp.batch) == self.step:
            next(state.model.parameters()).grad.fill_(math.inf)  # type: ignore[union-attr]


def numbered(steps: int) -> Any:
    loader = batches(steps)
    for number, row in enumerate(loader.dataset):  # type: ignore[arg-type, var-annotated]
        row["sample_ids"] = torch.tensor(number)
    return loader


class Toy(ToyElc):
    def forward(self, batch: dict[str, torch.Tensor]) -> Any:
        return self.model(**{key: value for key, value in batch.items() if key != "sample_ids"})


def run(callbacks: list[Callback], steps: int = 6, **settings: Any) -> Any:
    built = trainer(Toy(), callbacks, steps=steps, train_dataloader=numbered(steps), **settings)
    try:
        built.fit()
    finally:
        built.close()
    return built


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "bad_batches.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("factor", [math.nan, math.inf])
def test_nonfinite_loss_stops_before_its_checkpoint(factor: float, tmp_path: Path) -> None:
    guard, saver = LossGuard(folder=str(tmp_path)), CheckpointWriter(tmp_path / "checkpoints", "1ba")
    with pytest.raises(BadLoss, match=r"the loss of step 3 is (nan|inf); the ids .*bad_batches.jsonl") as bad:
        run([Spoil(3, factor), guard, saver])
    assert bad.value.step == 3
    assert sorted(path.name for path in saver.folder.iterdir()) == [f"ba{step}-rank0.pt" for step in (1, 2, 3)]
    (record,) = records(tmp_path)
    assert record["step"] == 3
    assert record["loss"] == str(float(factor))
    assert record["sample_ids"] == [list(range(24, 32))]


def test_exploding_loss_is_compared_with_the_median(tmp_path: Path) -> None:
    with pytest.raises(BadLoss, match=r"step 4 is .*, over 5 times the usual"):
        run([Spoil(4, 20.0), LossGuard(factor=5.0, window=3, folder=str(tmp_path))])
    run([Spoil(4, 20.0), LossGuard(folder=str(tmp_path))])
    run([Spoil(1, 20.0), LossGuard(factor=5.0, window=3, folder=str(tmp_path))])


def test_nonfinite_weights_are_never_saved(tmp_path: Path) -> None:
    guard = LossGuard(folder=str(tmp_path))
    saver = CheckpointWriter(tmp_path / "checkpoints", "1ba", checks=[guard.check_weights])
    with pytest.raises(BadLoss, match="step 2 turned weights into NaN or infinity") as bad:
        run([Overflow(2), guard, saver])
    assert bad.value.step == 2
    assert sorted(path.name for path in saver.folder.iterdir()) == ["ba1-rank0.pt", "ba2-rank0.pt"]


def test_skipped_step_changes_neither_weights_nor_moments() -> None:
    """SGD without momentum: the weights after skipping a step are those before it."""

    class Weights(Callback):
        def __init__(self) -> None:
            self.seen: list[torch.Tensor] = []

        def batch_end(self, state: State, logger: Logger) -> None:
            self.seen.append(torch.cat([p.detach().flatten() for p in state.model.parameters()]))

    guard, weights = LossGuard(folder=None), Weights()
    guard.skipped = {2, 3}
    run([Spoil(2, math.nan), guard, weights])
    assert torch.equal(weights.seen[1], weights.seen[2])
    assert torch.equal(weights.seen[1], weights.seen[3])
    assert not torch.equal(weights.seen[3], weights.seen[4])


def test_skipped_steps_after_each_failure() -> None:
    skipped: set[int] = set()
    assert LossGuard.leave_out(skipped, 7) == "7"
    # Still bad right after it: perhaps step 6 had ruined the weights, perhaps step 8 is bad itself.
    assert LossGuard.leave_out(skipped, 8) == "6, 8"
    assert LossGuard.leave_out(skipped, 30) == "30"
    # The weights after a step that is left out already: they were bad before it.
    assert LossGuard.leave_out(skipped, 30) == "29"
    assert skipped == {6, 7, 8, 29, 30}


def test_usual_losses_travel_in_checkpoints() -> None:
    one, two = LossGuard(window=3), LossGuard(window=3)
    one._losses.extend([1.0, 2.0, 3.0])
    two.load_state_dict(one.state_dict())
    assert list(two._losses) == [1.0, 2.0, 3.0]


def test_usual_losses_travel_in_sharded_checkpoints(tmp_path: Path) -> None:
    """These are read into what a new run has, and leave out what it lacks."""
    one, two = LossGuard(window=3), LossGuard(window=3)
    one._losses.extend([1.0, 2.0, 3.0])
    checkpoint.save({"guard": one.state_dict()}, checkpoint_id=tmp_path)
    found = {"guard": two.state_dict()}
    checkpoint.load(found, checkpoint_id=tmp_path)
    two.load_state_dict(found["guard"])
    assert list(two._losses) == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"factor": 1.0}, "factor is 1.0"), ({"window": 0}, "window is 0"), ({"max_roll_backs": -1}, "-1")],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LossGuard(**settings)
