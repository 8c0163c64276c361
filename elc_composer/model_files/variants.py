"""Tell from names and shapes which variant a state dict belongs to and what the model's sizes are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from elc_composer.common.errors import DataError
from elc_composer.model import MIXING_RULES


def detect_variant(state: Mapping[str, Tensor], told: str | None, source: Path) -> str:
    """The `layer_mixing` of a published state dict.

    `weighted_output` and `ltg` have names of their own; `base`, `zero` and `normalized` have the same names and differ
    in their equations only, so that one of these has to be told.

    Raises:
        DataError: if it cannot be told from the names and nobody said it, or if names and what was said disagree.
    """
    if told is not None and told not in MIXING_RULES:
        raise DataError(f"layer mixing '{told}' is none of {', '.join(MIXING_RULES)}")
    learned = any(name.startswith("transformer.layers.") and name.endswith("prev_layer_weights") for name in state)
    mixed_output = "transformer.prev_layer_weights" in state
    possible = [
        name for name, rule in MIXING_RULES.items() if rule.learned == learned and rule.mixed_output == mixed_output
    ]
    if told in possible:
        return str(told)
    if told is not None:
        raise DataError(
            f"{source} was said to be '{told}', but its names are those of {' / '.join(possible) or 'no variant'}"
        )
    if len(possible) != 1:
        raise DataError(
            f"{source} has the names of {' / '.join(possible) or 'no variant'}, which do not tell them apart; "
            "say which one it is with --layer-mixing"
        )
    return possible[0]


def sizes(state: Mapping[str, Tensor], source: Path) -> dict[str, int]:
    """What shapes tell of an ElcConfig: all but the number of heads and, without a position table, the longest input.

    Raises:
        DataError: if a parameter that tells a size is missing.
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
        raise DataError(f"{source} is no ELC-BERT: {error} is not there or not a matrix") from error
    layers = {name.split(".")[2] for name in state if name.startswith("transformer.layers.")}
    # Counted, not read off the largest: a name in a damaged file must not decide how much is built.
    found["num_hidden_layers"] = len(layers)
    if odd := sorted(layers - set(map(str, range(len(layers))))):
        raise DataError(f"{source}: its {len(layers)} layers are not numbered from 0 on, there is {', '.join(odd[:8])}")
    table = state.get("transformer.layers.0.attention.position_indices")
    return found if table is None or not table.ndim else {**found, "max_position_embeddings": table.shape[0]}
