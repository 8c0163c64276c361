from __future__ import annotations

import dataclasses
import inspect
from typing import get_type_hints

from elc_composer.model import ElcConfig
from elc_composer.training.model_config import ModelConfig, elc_config


def test_model_section_equals_the_arguments_of_elc_config() -> None:
    hints = get_type_hints(ElcConfig.__init__)
    arguments = [
        (parameter.name, hints[parameter.name], parameter.default)
        for parameter in inspect.signature(ElcConfig.__init__).parameters.values()
        if parameter.name != "self" and parameter.kind is not parameter.VAR_KEYWORD
    ]
    section = get_type_hints(ModelConfig)
    assert [(field.name, section[field.name], field.default) for field in dataclasses.fields(ModelConfig)] == arguments


def test_every_setting_reaches_the_model() -> None:
    changed = ModelConfig(layer_mixing="zero", vocab_size=99, layer_norm_eps=1e-5, kernels="eager", mask_token_id=6)
    built = elc_config(changed)
    assert {name: getattr(built, name) for name in dataclasses.asdict(changed)} == dataclasses.asdict(changed)
