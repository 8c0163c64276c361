"""Arguments that all transformers models take: which outputs are wanted, and token types."""

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
