"""Determines a model's variant and sizes from the names and shapes of its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from elc_composer.common.errors import DataError
from elc_composer.model import MIXING_RULES


def detect_variant(state: Mapping[str, Tensor], told: str | None, source: Path) -> str:
    """The `layer_mixing` of a published state dict.

    `weighted_output` and `ltg` have distinct names. `base`, `zero` and `normalized` have the same names and differ in
    their equations only, so that the user must say which one it is.

    Args:
        state: the parameters.
        told: the variant that the user or a config names; None if neither does.
        source: for the error message.

    Raises:
        DataError: the variant is ambiguous, or the names contradict `told`.
    """
    if told is not None and told not in MIXING_RULES:
        raise DataError(f"layer mixing is '{told}', must be one of {', '.join(MIXING_RULES)}")
    learned = any(name.startswith("transformer.layers.") and name.endswith("prev_layer_weights") for name in state)
    mixed_output = "transformer.prev_layer_weights" in state
    possible = [
        name for name, rule in MIXING_RULES.items() if rule.learned == learned and rule.mixed_output == mixed_output
    ]
    if told in possible:
        return str(told)
    if told is not None:
        raise DataError(
            f"{source}: layer mixing is given as '{told}', but the parameter names are those of "
            f"{' / '.join(possible) or 'no variant'}"
        )
    if len(possible) != 1:
        raise DataError(
            f"{source}: the parameter names are those of {' / '.join(possible) or 'no variant'}; "
            "set the variant with --layer-mixing"
        )
    return possible[0]


def sizes(state: Mapping[str, Tensor], source: Path) -> dict[str, int]:
    """Sizes of an ElcConfig from shapes: all but the number of heads and, without a position table, the longest input.

    Raises:
        DataError: a parameter that determines a size is missing or has another rank.
    """
    try:
        vocab_size, hidden_size = state["embedding.word_embedding.weight"].shape
        found = {
            "vocab_size": vocab_size,
            "hidden_size": hidden_size,
            "intermediate_size": state["transformer.layers.0.mlp.mlp.4.weight"].shape[1],
            "position_bucket_size": (state["embedding.relative_embedding"].shape[0] + 1) // 2,
        }
    except (KeyError, ValueError, IndexError) as error:
        raise DataError(f"{source} is not an ELC-BERT: {error} is missing or not a matrix") from error
    layers = {name.split(".")[2] for name in state if name.startswith("transformer.layers.")}
    # Count the layers instead of trusting the largest index: a corrupt name must not make us build a huge model.
    found["num_hidden_layers"] = len(layers)
    if odd := sorted(layers - set(map(str, range(len(layers))))):
        raise DataError(
            f"{source}: its {len(layers)} layers must be numbered from 0, but there is {', '.join(odd[:8])}"
        )
    table = state.get("transformer.layers.0.attention.position_indices")
    return found if table is None or not table.ndim else {**found, "max_position_embeddings": table.shape[0]}
