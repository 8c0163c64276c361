"""Builds the optimizer of a run config."""

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
    """Optimizer and its settings; the defaults are the published LAMB recipe."""

    name: str = "lamb"
    """`lamb`, or `adamw` (torch's; it needs a much lower `lr`)."""
    lr: float = 1e-2
    """Peak learning rate; the default belongs to global batches of about 4 M tokens."""
    betas: list[float] = field(default_factory=lambda: [0.9, 0.98])
    """Decay rates of the running means of the gradient and of its square."""
    eps: float = 1e-6
    """Added to the root of the mean squared gradient."""
    weight_decay: float = 0.1
    """Decoupled weight decay; not applied to biases, norms, embeddings and layer weights (`parameter_groups`)."""
    implementation: str = "auto"
    """Implementation of LAMB, see `Lamb`; no effect on `adamw`."""


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """An optimizer over the model's trained parameters in two groups, with weight decay and without.

    Raises:
        ConfigError: an unknown optimizer, numbers out of range, or a model without trained parameters.
    """
    groups = parameter_groups(model, config.weight_decay)
    if not groups:
        raise ConfigError("no parameter of the model needs a gradient: there is nothing to optimize")
    if config.name == "lamb":
        return Lamb(groups, config.lr, config.betas, config.eps, config.weight_decay, config.implementation)
    if config.name == "adamw":
        if len(config.betas) != 2:
            raise ConfigError(f"optimizer.betas are {config.betas}; they must be two numbers")
        try:
            betas = (config.betas[0], config.betas[1])
            return torch.optim.AdamW(groups, config.lr, betas, config.eps, config.weight_decay)
        except ValueError as error:
            raise ConfigError(f"optimizer adamw: {error}") from error
    raise ConfigError(f"optimizer.name is {config.name!r}; it must be one of {', '.join(OPTIMIZERS)}")
