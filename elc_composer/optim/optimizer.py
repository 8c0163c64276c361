"""Settings of a run's optimizer, and the optimizer built from them."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

from elc_composer.common.errors import ConfigError
from elc_composer.optim.lamb import Lamb
from elc_composer.optim.parameter_groups import parameter_groups

OPTIMIZERS = ("lamb", "adamw")


@dataclass
class OptimizerConfig:
    """Optimizer and its numbers; the defaults are the published LAMB recipe."""

    name: str = "lamb"
    """`lamb`, or `adamw`: torch's own, for which `lr` 1e-2 is far too large."""
    lr: float = 1e-2
    """Peak learning rate; the default belongs to global batches of about 4 M tokens."""
    betas: list[float] = field(default_factory=lambda: [0.9, 0.98])
    """Decay of the running means of gradient and squared gradient, in [0, 1)."""
    eps: float = 1e-6
    """Added to the root of the squared gradient's mean."""
    weight_decay: float = 0.1
    """Decoupled decay of all parameters but biases, norms, embeddings and layer weights."""


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Build an optimizer over the model's trained parameters in two groups, with weight decay and without.

    Raises:
        ConfigError: an unknown optimizer, numbers out of range, or a model without trained parameters.
    """
    groups = parameter_groups(model, config.weight_decay)
    if not groups:
        raise ConfigError("no parameter of the model requires a gradient; unfreeze some")
    if config.name == "lamb":
        return Lamb(groups, config.lr, config.betas, config.eps, config.weight_decay)
    if config.name == "adamw":
        if len(config.betas) != 2:
            raise ConfigError(f"optimizer.betas are {config.betas}; they must be two numbers")
        try:
            betas = (config.betas[0], config.betas[1])
            return torch.optim.AdamW(groups, config.lr, betas, config.eps, config.weight_decay)
        except ValueError as error:
            raise ConfigError(f"optimizer adamw: {error}") from error
    raise ConfigError(f"optimizer.name is {config.name!r}; it must be one of {', '.join(OPTIMIZERS)}")
