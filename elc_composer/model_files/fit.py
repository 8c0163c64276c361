"""Builds a model from a config and a state dict; reports names and shapes that do not fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar, overload

import torch
from torch import Tensor

from elc_composer.common.errors import DataError
from elc_composer.model import ElcConfig, ElcForMaskedLM, ElcModel
from elc_composer.model.attention import RelativePositions

LAYERS = "transformer.layers."
WORDS = "embedding.word_embedding.weight"
TIED = "classifier.nonlinearity.5.weight"
SHOWN = 8


Model = TypeVar("Model", bound=ElcModel)


@overload
def build(config: ElcConfig, state: Mapping[str, Tensor], source: Path) -> ElcForMaskedLM: ...


@overload
def build(config: ElcConfig, state: Mapping[str, Tensor], source: Path, kind: type[Model]) -> Model: ...


def build(
    config: ElcConfig, state: Mapping[str, Tensor], source: Path, kind: type[ElcModel] = ElcForMaskedLM
) -> ElcModel:
    """A float32 model with these parameters, in evaluation mode.

    `position_indices` are compared with the model's own and dropped. The state may hold the tied matrix once or twice.

    Raises:
        DataError: with the names and shapes that are missing, unknown or different.
    """
    state = dict(state)
    layers = {name.removeprefix(LAYERS).split(".")[0] for name in state if name.startswith(LAYERS)}
    if config.num_hidden_layers > 2 * len(layers):  # a corrupt config must not make us build a huge model
        raise DataError(f"{source} holds {len(layers)} layers, but the config has {config.num_hidden_layers}")
    check_positions(config, state, source)
    if TIED in state and WORDS in state and not torch.equal(state[TIED], state[WORDS]):
        raise DataError(f"{source}: {TIED} and {WORDS} differ, but the model has one matrix for both")
    with torch.device("meta"):
        model = kind(config)
    expected = {name: tuple(value.shape) for name, value in model.named_parameters(remove_duplicate=False)}
    for one, other in ((TIED, WORDS), (WORDS, TIED)):
        if other in state and one in expected:
            state.setdefault(one, state[other])
    check_shapes(expected, {name: tuple(value.shape) for name, value in state.items()}, source)
    model.to_empty(device="cpu")
    model.tie_weights()
    model.load_state_dict(state)
    for module in model.modules():
        if isinstance(module, RelativePositions):
            module.reset_parameters()
    return model.float().eval()


def check_shapes(expected: Mapping[str, tuple[int, ...]], actual: Mapping[str, tuple[int, ...]], source: Path) -> None:
    """Compare names and shapes.

    Raises:
        DataError: with the first differences.
    """
    faults = [f"{name} {expected[name]} is missing" for name in expected if name not in actual]
    faults += [f"{name} {actual[name]} is unknown" for name in actual if name not in expected]
    faults += [
        f"{name} has shape {actual[name]} instead of {expected[name]}"
        for name in expected
        if name in actual and actual[name] != expected[name]
    ]
    if faults:
        more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise DataError(f"{source} does not fit the model: {'; '.join(faults[:SHOWN])}{more}")


def check_positions(config: ElcConfig, state: dict[str, Tensor], source: Path) -> None:
    """Remove the `position_indices` `[max_positions, max_positions]` that published checkpoints repeat in every layer.

    Raises:
        DataError: a table differs from the one that the model computes.
    """
    names = [name for name in state if name.endswith("attention.position_indices")]
    if not names:
        return
    own = RelativePositions(config)(config.max_position_embeddings)
    for name in names:
        stored = state.pop(name)
        if stored.shape != own.shape or not torch.equal(stored.long(), own):
            raise DataError(
                f"{source}: {name} {tuple(stored.shape)} is not the table for max_position_embeddings "
                f"{config.max_position_embeddings} and position_bucket_size {config.position_bucket_size}"
            )
