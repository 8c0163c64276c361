"""WeightDistributionMonitor: statistics against a plain computation."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from composer import Callback
from torch import Tensor

from elc_composer.callbacks import WeightDistributionMonitor
from elc_composer.callbacks.measuring.distributions import moments, weighted_quantiles
from elc_composer.common.errors import ConfigError
from tests.callbacks.toys import ToyElc, logged, trainer

UNIT = "transformer.layers.1"


class Spy(Callback):
    """Concatenates the unit's weights before and after each batch, and its gradients."""

    def __init__(self, model: ToyElc, unit: str) -> None:
        self.members = [value for name, value in model.model.named_parameters() if name.startswith(unit + ".")]
        self.before: dict[int, Tensor] = {}
        self.after: dict[int, Tensor] = {}
        self.grad: dict[int, Tensor] = {}

    def flat(self) -> Tensor:
        return torch.cat([value.detach().flatten().double() for value in self.members])

    def batch_start(self, state, logger) -> None:
        self.before[int(state.timestamp.batch) + 1] = self.flat()

    def batch_end(self, state, logger) -> None:
        step = int(state.timestamp.batch)
        self.after[step] = self.flat()
        self.grad[step] = torch.cat([value.grad.flatten().double() for value in self.members])


def expected(spy: Spy, step: int) -> dict[str, float]:
    weights, grad, before = spy.after[step], spy.grad[step], spy.before[step]
    return {
        "norm": weights.norm().item(),
        "mean": weights.mean().item(),
        "std": weights.std(unbiased=False).item(),
        "abs_max": weights.abs().max().item(),
        "zeros": (weights == 0).double().mean().item(),
        "nonfinite": 0.0,
        "update_ratio": ((weights - before).norm() / before.norm()).item(),
        "grad_norm": grad.norm().item(),
        "grad_std": grad.std(unbiased=False).item(),
        "grad_nonfinite": 0.0,
        **{
            f"q{100 * level:g}": np.quantile(weights.numpy(), level, method="inverted_cdf")
            for level in (0.01, 0.25, 0.5, 0.75, 0.99)
        },
    }


@pytest.mark.parametrize("exact", [True, False])
def test_figures_are_those_of_a_plain_computation(exact: bool, tmp_path: Path) -> None:
    model = ToyElc()
    # the sample holds every element, so that nothing is estimated
    monitor = WeightDistributionMonitor(interval="2ba", sample_size=10_000, exact=exact, folder=str(tmp_path))
    spy = Spy(model, UNIT)
    run = trainer(model, [spy, monitor], steps=4, device_train_microbatch_size=4)
    run.fit()
    found = logged(run, f"weight_distribution/{UNIT}/")
    for step in (1, 2, 4):
        now = {name.rsplit("/", 1)[1]: points[step] for name, points in found.items()}
        assert now == pytest.approx(expected(spy, step), rel=1e-5, abs=1e-8)
    assert set(found[f"weight_distribution/{UNIT}/norm"]) == {1, 2, 4}


def test_sample_estimates_the_exact_statistics(tmp_path: Path) -> None:
    model = ToyElc()
    monitor = WeightDistributionMonitor(interval="1ba", sample_size=128, exact=False, folder=None)
    spy = Spy(model, UNIT)
    run = trainer(model, [spy, monitor], steps=1)
    run.fit()
    found = {name.rsplit("/", 1)[1]: points[1] for name, points in logged(run, f"weight_distribution/{UNIT}/").items()}
    truth = expected(spy, 1)
    for name in ("norm", "std", "update_ratio", "grad_norm", "grad_std"):
        assert found[name] == pytest.approx(truth[name], rel=0.2)
    assert found["q50"] == pytest.approx(truth["q50"], abs=0.2 * truth["std"])


def test_units_are_layers_parts_and_parameter_groups() -> None:
    model = ToyElc()
    decay = [value for value in model.parameters() if value.dim() > 1]
    rest = [value for value in model.parameters() if value.dim() <= 1]
    optimizer = torch.optim.SGD([{"params": decay, "name": "decay"}, {"params": rest}], lr=0.1)
    run = trainer(model, [WeightDistributionMonitor(interval="1ba", folder=None)], steps=1, optimizer=optimizer)
    run.fit()
    found = logged(run, "weight_distribution/")
    layers = {f"transformer.layers.{i}" for i in range(3)}
    other = {"embedding", "classifier.nonlinearity.1", "classifier.nonlinearity.5", "transformer"}
    assert {name.split("/")[1] for name in found} == layers | {"decay", "group_1"} | other
    norm = math.sqrt(sum(value.detach().square().sum().item() for value in decay))
    assert found["weight_distribution/decay/norm"][1] == pytest.approx(norm, rel=1e-5)


def test_each_parameter_by_itself() -> None:
    run = trainer(ToyElc(), [WeightDistributionMonitor(interval="1ba", folder=None, per_parameter=True)], steps=1)
    run.fit()
    assert "weight_distribution/model.embedding.word_embedding.weight/norm" in logged(run, "weight_distribution/")


def test_nonfinite_weights_are_counted_and_left_out_of_moments(tmp_path: Path) -> None:
    model = ToyElc()
    with torch.no_grad():
        model.model.embedding.relative_embedding[0, 0] = math.nan
        model.model.embedding.relative_embedding[0, 1] = math.inf
        model.model.embedding.relative_embedding[1] = 0.0
    frozen = torch.optim.SGD(model.parameters(), lr=0.0)
    monitor = WeightDistributionMonitor(interval="1ba", folder=str(tmp_path), sample_size=10_000)
    run = trainer(model, [monitor], steps=1, optimizer=frozen)
    monitor.fit_start(run.state, run.logger)
    monitor.batch_start(run.state, run.logger)
    run.state.timestamp = run.state.timestamp.to_next_batch(8, 0)
    monitor.batch_end(run.state, run.logger)
    found = {name.rsplit("/", 1)[1]: p[1] for name, p in logged(run, "weight_distribution/embedding/").items()}
    count = sum(value.numel() for value in model.model.embedding.parameters())
    assert found["nonfinite"] == pytest.approx(2 / count)
    assert found["zeros"] == pytest.approx((16 + 16) / count), "a row, and the bias of the norm"
    assert all(map(math.isfinite, found.values()))
    assert "grad_norm" not in found


def test_histograms_are_kept(tmp_path: Path) -> None:
    model = ToyElc()
    monitor = WeightDistributionMonitor(interval="2ba", folder=str(tmp_path), sample_size=10_000, bins=8)
    trainer(model, [monitor], steps=2).fit()
    records = [json.loads(line) for line in (tmp_path / "weight_histograms.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [1, 2]
    found = records[-1]["units"][UNIT]
    weights = Spy(model, UNIT).flat().numpy()
    counts, edges = np.histogram(weights, bins=8)
    assert found["counts"] == counts.tolist()
    assert (found["low"], found["high"]) == pytest.approx((edges[0], edges[-1]))


def test_nothing_is_copied_between_measurements() -> None:
    monitor = WeightDistributionMonitor(interval="4ba", folder=None)
    copies = []

    class Look(Callback):
        def before_forward(self, state, logger) -> None:
            copies.append(monitor._before is not None)

    trainer(ToyElc(), [monitor, Look()], steps=5).fit()
    assert copies == [True, False, False, True, False]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_moments_of_each_dtype(dtype: torch.dtype) -> None:
    values = torch.tensor([1.0, -2.0, 0.0, math.nan, -math.inf], dtype=dtype)
    found, top = moments(values, torch.float64, torch.device("cpu"))
    assert found.tolist() == [5.0, -1.0, pytest.approx(5.0), 1.0, 2.0]
    assert top.item() == 2.0


def test_weighted_quantiles_repeat_values_by_weight() -> None:
    generator = np.random.default_rng(0)
    values, counts = generator.normal(size=50), generator.integers(1, 9, size=50)
    levels = [0.0, 0.1, 0.5, 0.9, 1.0]
    repeated = np.quantile(np.repeat(values, counts), levels, method="inverted_cdf")
    assert weighted_quantiles(values, counts.astype(float), levels) == pytest.approx(repeated.tolist())


@pytest.mark.parametrize(
    "settings", [{"sample_size": 0}, {"bins": -1}, {"quantiles": [1.5]}, {"interval": "x"}], ids=lambda s: next(iter(s))
)
def test_bad_settings(settings: dict) -> None:
    with pytest.raises(ConfigError, match="weight_distribution_monitor"):
        WeightDistributionMonitor(**settings)
