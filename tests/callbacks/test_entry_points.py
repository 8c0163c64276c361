"""Entry points: LLM Foundry finds callbacks, logger and LAMB by name."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

import catalogue
import pytest
import torch
from composer.core import Callback
from composer.loggers import LoggerDestination
from torch.optim import Optimizer

NAMES = {
    "llmfoundry_callbacks": ["layer_weight_monitor", "weight_distribution_monitor", "mixed_input_monitor"],
    "llmfoundry_loggers": ["metrics_file"],
    "llmfoundry_optimizers": ["elc_lamb"],
}
KINDS = {
    "llmfoundry_callbacks": Callback,
    "llmfoundry_loggers": LoggerDestination,
    "llmfoundry_optimizers": Optimizer,
}
INSTALLED = entry_points(group="llmfoundry_callbacks").names

# the package's metadata is written when it is installed; a tree that is only on the path has none
pytestmark = pytest.mark.skipif(
    "layer_weight_monitor" not in INSTALLED, reason="elc-composer is not installed with its entry points"
)


@pytest.mark.parametrize(("group", "name"), [(group, name) for group, names in NAMES.items() for name in names])
def test_foundry_builds_it_by_name(group: str, name: str) -> None:
    # LLM Foundry's registries are catalogue registries ("llmfoundry", kind) that read entry points; what it finds must
    # be a class of the right kind, which it calls with the YAML's entries as keywords
    kind = group.removeprefix("llmfoundry_")
    found = catalogue.create("llmfoundry", kind, entry_points=True).get(name)
    assert isinstance(found, type)
    assert issubclass(found, KINDS[group])
    settings: dict[str, Any] = {}
    if kind == "optimizers":
        settings = {"params": torch.nn.Linear(2, 2).parameters(), "lr": 0.01}
    elif kind == "callbacks":
        settings = {"interval": "7ba"}
    built = found(**settings)
    assert kind != "callbacks" or built.interval == "7ba"
