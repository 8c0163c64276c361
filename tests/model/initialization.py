"""What freshly initialized parameters must look like, told from their names alone."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from elc_composer.model import ElcConfig

# Of a normal truncated at two standard deviations: its own deviation, and its share beyond one.
TRUNCATED_STD = 0.8796
SHARE_BEYOND_ONE = 0.2848


def expected_std(name: str, hidden: int) -> float | None:
    """Deviation of the normal before its truncation, or None for what is not drawn."""
    std = math.sqrt(2.0 / (5.0 * hidden))
    parts = name.split(".")
    if ".mlp.mlp." in name:
        return std * math.sqrt(1.0 / (2.0 * (1.0 + int(parts[2]))))
    drawn = name.endswith("relative_embedding") or (name.endswith(".weight") and "layer_norm" not in name)
    return std if drawn else None


def assert_initialized(parameters: Mapping[str, Tensor], config: ElcConfig) -> None:
    """Every parameter, whole and by its plain name, has the published initialization."""
    rule = config.mixing_rule
    for name, value in parameters.items():
        assert torch.isfinite(value).all(), name
        std = expected_std(name, config.hidden_size)
        if std is not None:
            assert_truncated_normal(name, value, std)
        elif name.endswith("prev_layer_weights"):
            expected = torch.zeros(len(value))
            expected[-1] = rule.previous_layer_init
            assert torch.equal(value.cpu(), expected), f"{name}: {value.tolist()}"
        elif name.endswith("layer_norm.weight"):
            assert (value == 1).all(), name
        else:
            assert name.endswith("bias")
            assert (value == 0).all(), name


def assert_truncated_normal(name: str, value: Tensor, std: float) -> None:
    """Within two deviations, filling that range, and with the shape of a normal: five standard errors each."""
    value = value.double()
    count = value.numel()
    assert value.abs().max() <= 2 * std * (1 + 1e-6), name
    assert value.abs().max() >= 1.9 * std, name
    assert abs(value.mean()) <= 5 * std / math.sqrt(count), name
    assert abs(value.std() / (TRUNCATED_STD * std) - 1) <= 5 / math.sqrt(2 * count), name
    share = (value.abs() > std).double().mean()
    assert abs(share - SHARE_BEYOND_ONE) <= 5 * math.sqrt(SHARE_BEYOND_ONE * (1 - SHARE_BEYOND_ONE) / count), name
    assert value.unique().numel() > count * 0.99 or count > 2**20, f"{name}: values drawn once are used again"
