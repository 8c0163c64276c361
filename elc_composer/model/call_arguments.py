"""Arguments that all transformers models take: inputs, which outputs are wanted, and token types."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .kernels import is_transformed


class WantedOutputs(NamedTuple):
    """What a call of a model returns besides its main result."""

    attentions: bool
    hidden_states: bool
    as_dict: bool

    def extras(self, states: tuple[Tensor, ...], probabilities: list[Tensor] | None) -> dict[str, Any]:
        """The fields of transformers' outputs for them."""
        attentions = None if probabilities is None else tuple(probabilities)
        return {"hidden_states": states if self.hidden_states else None, "attentions": attentions}


def refuse_token_types(token_type_ids: Tensor | None) -> None:
    """Raise a ValueError for token types other than 0; values are not looked at where they have none (in export)."""
    if token_type_ids is None or torch.compiler.is_compiling() or is_transformed():
        return
    if bool(token_type_ids.any()):
        raise ValueError("token_type_ids must be 0: ELC-BERT has one type of token; leave the argument out")


def sequence_shape(input_ids: Tensor | None, inputs_embeds: Tensor | None) -> tuple[int, int]:
    """Batch size and length of whichever of the two is given.

    Raises:
        ValueError: both are given, or neither, or one without the dimensions that it must have.
    """
    if (input_ids is None) == (inputs_embeds is None):
        raise ValueError("give one of input_ids [B, T] and inputs_embeds [B, T, D]")
    given = inputs_embeds if input_ids is None else input_ids
    assert given is not None
    if given.dim() != (3 if input_ids is None else 2):
        raise ValueError(f"inputs are {list(given.shape)}; give input_ids [B, T] or inputs_embeds [B, T, D]")
    return given.shape[0], given.shape[1]
