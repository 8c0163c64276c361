"""The classifier of the 2025 and 2026 pipelines: an encoder and a head on its first or last token."""

from __future__ import annotations

import inspect
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_outputs import SequenceClassifierOutput

from elc_composer.model import ElcModel

HEAD_DROPOUT = 0.1
HEAD_EPS = 1e-5


class EncoderWithHead(nn.Module):
    """Classifies sequences with any transformers encoder.

    The head: LayerNorm without parameters, Linear, GELU, LayerNorm without parameters, Dropout, Linear; initialized as
    torch does. The last token is the last position, so inputs must be padded on the left.

    Args:
        encoder: returns `last_hidden_state` `[B, T, D]`, or a tuple that starts with it.
        hidden_size: D.
        classes: number of classes.
        token: `first` or `last`.
        dropout: dropout of the head.
    """

    def __init__(
        self, encoder: nn.Module, hidden_size: int, classes: int, token: str = "first", dropout: float = HEAD_DROPOUT
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.position = {"first": 0, "last": -1}[token]
        self.head = nn.Sequential(
            nn.LayerNorm(hidden_size, HEAD_EPS, elementwise_affine=False),
            nn.Linear(hidden_size, hidden_size),
            nn.GELU(),
            nn.LayerNorm(hidden_size, HEAD_EPS, elementwise_affine=False),
            nn.Dropout(dropout),
            nn.Linear(hidden_size, classes),
        )
        self._takes_types = "token_type_ids" in inspect.signature(encoder.forward).parameters

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> SequenceClassifierOutput:
        """Logits `[B, classes]`, and the mean cross-entropy if labels `[B]` are given."""
        logits = self.head(self._read(input_ids, attention_mask, token_type_ids))
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=cast(Any, loss), logits=logits)

    def _read(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None) -> Tensor:
        """The state of the token that the head reads, `[B, D]`."""
        batch, length = input_ids.shape
        if isinstance(self.encoder, ElcModel):
            # The last layer computes only the tokens that are read.
            positions = torch.arange(batch, device=input_ids.device) * length + self.position % length
            wanted = self.encoder.wanted_outputs(False, False, True)
            return self.encoder.read_states(wanted, input_ids, None, attention_mask, positions)[0]
        more: dict[str, Any] = {}
        if token_type_ids is not None and self._takes_types:
            more["token_type_ids"] = token_type_ids
        output = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **more)
        states = output[0] if isinstance(output, tuple) else output.last_hidden_state
        return states[:, self.position]
