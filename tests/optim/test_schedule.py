"""The schedule, by itself and as Composer's Trainer goes through it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from composer import Callback, ComposerModel, State, Trainer
from composer.core import Time, Timestamp
from composer.optim import CosineAnnealingWithWarmupScheduler
from torch.utils.data import DataLoader

from elc_composer.common.errors import ConfigError
from elc_composer.optim import Lamb, ScheduleConfig, build_scheduler
from elc_composer.optim.schedule import count_warmup_steps, lr_multiplier
from tests.conftest import require


@pytest.mark.golden
def test_published_multipliers(golden_dir: Path):
    golden = json.loads(require(golden_dir / "cosine_schedule.json").read_text())
    config, total = (
        ScheduleConfig(warmup_fraction=golden["warmup_proportion"], floor=golden["min_factor"]),
        golden["max_steps"],
    )
    assert count_warmup_steps(config, total) == golden["warmup_steps"]
    for step, expected in golden["lr_multiplier_at_step"].items():
        assert lr_multiplier(config, int(step), total) == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_curve_is_composers():
    # Composer's scheduler has the same curve over the clock; it is the trainer's use of it that is one step late.
    composers = CosineAnnealingWithWarmupScheduler(t_warmup="10ba", t_max="100ba", alpha_f=0.1)
    config = ScheduleConfig(warmup_steps=10, floor=0.1)
    for step in range(101):
        state = SimpleNamespace(timestamp=Timestamp(batch=step), max_duration=Time.from_batch(100), dataloader_len=None)
        assert lr_multiplier(config, step, 100) == pytest.approx(composers(state), rel=1e-12, abs=1e-15)


class LinearModel(ComposerModel):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(2, 1)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.linear(batch)

    def loss(self, outputs: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        return outputs.square().mean()


class LearningRates(Callback):
    """The rate that each optimizer step uses."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def before_train_batch(self, state: State, logger: object) -> None:
        self.rates.append(state.optimizers[0].param_groups[0]["lr"])


def build_trainer(config: ScheduleConfig, total: int, lr: float, **arguments: Any) -> tuple[Trainer, LearningRates]:
    model, recorder = LinearModel(), LearningRates()
    optimizer = Lamb(model.parameters(), lr=lr)
    trainer = Trainer(
        model=model,
        optimizers=optimizer,
        schedulers=build_scheduler(config, optimizer, total),
        step_schedulers_every_batch=True,
        max_duration=f"{total}ba",
        callbacks=[recorder],
        progress_bar=False,
        **arguments,
    )
    return trainer, recorder


def fit(trainer: Trainer, steps: int) -> None:
    loader = DataLoader(torch.randn(2 * steps, 2), batch_size=2)
    trainer.fit(train_dataloader=loader, duration=f"{steps}ba")


@pytest.mark.golden
def test_trainer_uses_the_published_rates_across_stages(golden_dir: Path):
    golden = np.load(require(golden_dir / "training_run.npz"))
    for key in (key for key in golden.files if key.endswith("/lr")):
        expected = golden[key]
        peak, total = expected.max(), len(expected)
        warmup = int(expected.argmax())
        trainer, recorder = build_trainer(ScheduleConfig(warmup_steps=warmup), total, peak)
        for steps in (total - total // 3, total // 3):
            fit(trainer, steps)
        trainer.close()
        np.testing.assert_allclose(recorder.rates, expected, rtol=1e-12, atol=1e-18)


def test_resumed_run_continues_the_rates(tmp_path: Path):
    config = ScheduleConfig(warmup_steps=4)
    trainer, whole = build_trainer(config, 20, 0.5)
    fit(trainer, 20)
    trainer.close()
    trainer, first = build_trainer(config, 20, 0.5)
    fit(trainer, 7)
    checkpoint = trainer.save_checkpoint(str(tmp_path / "checkpoint.pt"))
    trainer.close()
    trainer, second = build_trainer(config, 20, 0.5, load_path=checkpoint)
    fit(trainer, 13)
    trainer.close()
    assert whole.rates == first.rates + second.rates


@pytest.mark.parametrize("name", ["cosine", "linear", "constant"])
@pytest.mark.parametrize("warmup", [0, 10])
def test_shape(name: str, warmup: int):
    config = ScheduleConfig(name=name, warmup_steps=warmup, floor=0.2)
    values = [lr_multiplier(config, step, 100) for step in range(101)]
    assert values[: warmup + 1] == pytest.approx(np.linspace(0, 1, warmup + 1) if warmup else [1.0])
    assert all(later <= earlier + 1e-12 for earlier, later in zip(values[warmup:], values[warmup + 1 :]))
    assert values[-1] == pytest.approx(1.0 if name == "constant" else 0.2)
    middle = values[(100 + warmup) // 2]
    assert middle == pytest.approx(1.0 if name == "constant" else 0.6)


@pytest.mark.parametrize(("fraction", "steps"), [(0.0, 0), (1.0, 100)])
def test_a_warm_up_may_take_nothing_or_the_whole_run(fraction: float, steps: int):
    config = ScheduleConfig(warmup_fraction=fraction)
    assert count_warmup_steps(config, 100) == steps
    assert [lr_multiplier(config, step, 100) for step in (0, 100)] == [1.0 - fraction, 1.0 if steps else config.floor]


@pytest.mark.parametrize(
    ("config", "total", "culprit"),
    [
        (ScheduleConfig(name="step"), 10, "schedule.name is 'step'"),
        (ScheduleConfig(floor=1.5), 10, "schedule.floor is 1.5"),
        (ScheduleConfig(warmup_fraction=-0.1), 10, "schedule.warmup_fraction"),
        (ScheduleConfig(warmup_steps=11), 10, "schedule.warmup_steps gives 11"),
        (ScheduleConfig(), 0, "at least 1"),
    ],
)
def test_bad_values_are_named(config: ScheduleConfig, total: int, culprit: str):
    with pytest.raises(ConfigError, match=culprit):
        build_scheduler(config, Lamb(LinearModel().parameters()), total)
