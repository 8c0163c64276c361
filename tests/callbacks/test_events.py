"""Every callback handles every Composer event, in any order, before and after training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from composer import Event
from composer.core import Callback

from elc_composer import callbacks
from elc_composer.callbacks import (
    DataWaitMonitor,
    LayerWeightMonitor,
    LossGuard,
    MetricsFile,
    MixedInputMonitor,
    Preemption,
    SeededSteps,
    StepMetrics,
    WeightDistributionMonitor,
)
from elc_composer.callbacks.minimal_pair_plot import MinimalPairPlot
from tests.callbacks.toys import ToyElc, batches, trainer

SETTINGS: dict[type[Callback], dict[str, Any]] = {
    LayerWeightMonitor: {"interval": "1ba", "folder": "here"},
    WeightDistributionMonitor: {"interval": "1ba", "folder": "here"},
    MixedInputMonitor: {"interval": "1ba", "folder": "here"},
    MetricsFile: {"path": "here"},
    LossGuard: {"folder": "here"},
    MinimalPairPlot: {"picture_path": "here"},
    DataWaitMonitor: {"window": 1},
    Preemption: {},
    SeededSteps: {"seed": 1},
    StepMetrics: {},
}
CALLBACKS = tuple(SETTINGS)


def make(kind: type[Callback], folder: Path) -> Callback:
    return kind(**{key: str(folder / "here") if value == "here" else value for key, value in SETTINGS[kind].items()})


def test_every_callback_is_tested() -> None:
    exported = [getattr(callbacks, name) for name in callbacks.__all__]
    assert {each for each in exported if issubclass(each, Callback)} <= set(CALLBACKS)


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
