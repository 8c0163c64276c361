"""Every callback takes every Composer event, in any order, before and after training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from composer import Event
from composer.core import Callback

from elc_composer.callbacks import LayerWeightMonitor, MetricsFile, MixedInputMonitor, WeightDistributionMonitor

from .toys import ToyElc, batches, trainer

CALLBACKS = (LayerWeightMonitor, WeightDistributionMonitor, MixedInputMonitor, MetricsFile)


def make(kind: type[Callback], folder: Path) -> Callback:
    if kind is MetricsFile:
        return MetricsFile(str(folder / "metrics.jsonl"))
    return kind(interval="1ba", folder=str(folder))  # type: ignore[call-arg]


@pytest.mark.parametrize("mixing", ["weighted_output", "ltg"])
@pytest.mark.parametrize("kind", CALLBACKS)
def test_each_event_alone_in_a_fresh_run(kind: type[Callback], mixing: str, tmp_path: Path) -> None:
    run = trainer(ToyElc(mixing), [], steps=1)
    run.state.batch = next(iter(batches(1)))
    before = {name: value.clone() for name, value in run.state.model.state_dict().items()}
    for event in Event:
        callback = make(kind, tmp_path)
        callback.run_event(event, run.state, run.logger)
        callback.close(run.state, run.logger)
    assert all(torch.equal(value, before[name]) for name, value in run.state.model.state_dict().items())


@pytest.mark.parametrize("kind", CALLBACKS)
def test_all_events_twice_after_training(kind: type[Callback], tmp_path: Path) -> None:
    callback = make(kind, tmp_path)
    run = trainer(ToyElc(), [callback], steps=2)
    run.fit()
    for event in [*Event, *Event]:
        callback.run_event(event, run.state, run.logger)
    run.close()
    assert int(run.state.timestamp.batch) == 2


@pytest.mark.parametrize("kind", CALLBACKS)
def test_evaluation_alone(kind: type[Callback], tmp_path: Path) -> None:
    run = trainer(ToyElc(), [make(kind, tmp_path)], steps=1)
    run.eval(eval_dataloader=batches(1))
    run.close()
    assert int(run.state.timestamp.batch) == 0
