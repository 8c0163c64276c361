"""LLM Foundry builds the callbacks, logger and optimizer by the names in its YAMLs."""

from __future__ import annotations

import pytest
import torch

from elc_composer import callbacks
from elc_composer.optim import Lamb

pytestmark = pytest.mark.foundry


@pytest.fixture
def builders() -> object:
    return pytest.importorskip("llmfoundry.utils.builders", reason="llm-foundry is not installed: make test-foundry")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("layer_weight_monitor", callbacks.LayerWeightMonitor),
        ("weight_distribution_monitor", callbacks.WeightDistributionMonitor),
        ("mixed_input_monitor", callbacks.MixedInputMonitor),
    ],
)
def test_foundry_builds_the_callback(builders, name: str, kind: type) -> None:
    built = builders.build_callback(name, {"interval": "7ba"})
    assert isinstance(built, kind)
    assert built.interval == "7ba"


def test_foundry_builds_the_optimizer_and_the_logger(builders) -> None:
    built = builders.build_optimizer(torch.nn.Linear(2, 2), "elc_lamb", {"lr": 0.01})
    assert isinstance(built, Lamb)
    assert built.param_groups[0]["lr"] == 0.01
    assert isinstance(builders.build_logger("metrics_file", {}), callbacks.MetricsFile)
