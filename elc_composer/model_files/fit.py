"""Put a state dict into a model, or say by name and shape what does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from elc_composer.common.errors import DataError
from elc_composer.model import ElcConfig, ElcForMaskedLM
from elc_composer.model.attention import RelativePositions

WORDS = "embedding.word_embedding.weight"
TIED = "classifier.nonlinearity.5.weight"
SHOWN = 8


def build(config: ElcConfig, state: Mapping[str, Tensor], source: Path) -> ElcForMaskedLM:
    """A float32 model with these parameters, in evaluation mode.

    `position_indices` are compared with the model's own and dropped; the tied matrix may be there once or twice.

    Raises:
        DataError: naming keys and shapes that are missing, left over or different.
    """
    state = dict(state)
    check_positions(config, state, source)
    if TIED in state and WORDS in state and not torch.equal(state[TIED], state[WORDS]):
        raise DataError(f"{source}: {TIED} and {WORDS} differ, but the model has one matrix for both")
    with torch.device("meta"):
        model = ElcForMaskedLM(config)
    expected = {name: tuple(value.shape) for name, value in model.named_parameters(remove_duplicate=False)}
    for one, other in ((TIED, WORDS), (WORDS, TIED)):
        if other in state:
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
        DataError: listing what differs.
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
        DataError: if one differs from what the model computes.
    """
    own = RelativePositions(config)(config.max_position_embeddings)
    for name in [name for name in state if name.endswith("attention.position_indices")]:
        stored = state.pop(name)
        if stored.shape != own.shape or not torch.equal(stored.long(), own):
            raise DataError(
                f"{source}: {name} {tuple(stored.shape)} is not the table for max_position_embeddings "
                f"{config.max_position_embeddings} and position_bucket_size {config.position_bucket_size}"
            )
