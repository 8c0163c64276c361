"""From a prepared run to its objects, one small function a component."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from composer.utils import reproducibility

from elc_composer.errors import ConfigError
from elc_composer.model import ElcConfig, ElcForMaskedLM

if TYPE_CHECKING:
    from elc_composer.config import RunConfig


def build_elc_config(config: RunConfig) -> ElcConfig:
    """The model's configuration.

    Raises:
        ConfigError: for settings that the model refuses, with its reason.
    """
    try:
        return ElcConfig(**dataclasses.asdict(config.model))
    except ValueError as error:
        raise ConfigError(f"model: {error}") from error


def build_model(config: RunConfig) -> ElcForMaskedLM:
    """The model, with the same initial weights on every rank."""
    elc_config = build_elc_config(config)
    reproducibility.seed_all(config.seed)
    return ElcForMaskedLM(elc_config)
