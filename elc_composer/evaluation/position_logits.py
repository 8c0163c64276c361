"""Logits at chosen positions only, for any masked language model; the head is the dearest part of a small model."""

from __future__ import annotations

import inspect
import threading
from typing import Any

import torch
from torch import Tensor, nn

_deciding = threading.Lock()
"""Held by the thread that compares; not in `PositionLogits`, which is copied along with the model that keeps it."""


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside DDP, FSDP1 and torch.compile wrappers."""
    while True:
        for name in ("module", "_fsdp_wrapped_module", "_orig_mod"):
            inner = getattr(model, name, None)
            if isinstance(inner, nn.Module):
                model = inner
                break
        else:
            return model


class PositionLogits:
    """Calls a masked or causal language model and returns its logits at some positions.

    The first of these that the model allows is used:

    1. its forward takes `masked_positions` (this project's models);
    2. it is a transformers model with a base model: a hook hands the head only the wanted hidden states. A head is any
       code, so the first call compares this with the whole logits and gives it up where they differ;
    3. it computes logits everywhere, and the wanted ones are picked.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        plain = unwrapped(model)
        self.takes_positions = "masked_positions" in inspect.signature(plain.forward).parameters
        base = getattr(plain, getattr(plain, "base_model_prefix", "") or "", None)
        self.base: nn.Module | None = base if isinstance(base, nn.Module) else None
        self.checked = False

    def __call__(self, input_ids: Tensor, attention_mask: Tensor | None, positions: Tensor) -> Tensor:
        """Logits.

        Args:
            input_ids: `[B, T]` int64.
            attention_mask: `[B, T]`, nonzero at real tokens; None where all are.
            positions: `[M]` int64, positions in the flattened `[B * T]`.

        Returns:
            `[M, V]` in the model's dtype.
        """
        if self.takes_positions:
            return self.model(
                input_ids=input_ids, attention_mask=attention_mask, masked_positions=positions, return_dict=True
            ).logits
        inputs = {"input_ids": input_ids}
        if attention_mask is not None:
            inputs["attention_mask"] = attention_mask.long()
        if len(positions) > 0:
            self._decide(inputs, positions)
        base = self.base
        if base is None or len(positions) == 0:
            return self._everywhere(inputs, positions)
        return self._through_base(base, inputs, positions)

    def _everywhere(self, inputs: dict[str, Tensor], positions: Tensor) -> Tensor:
        logits = _first(self.model(**inputs))
        return logits.flatten(0, 1).index_select(0, positions)

    def _through_base(self, base: nn.Module, inputs: dict[str, Tensor], positions: Tensor) -> Tensor:
        caller = threading.get_ident()

        def pick(module: nn.Module, args: Any, output: Any) -> Any:
            if threading.get_ident() != caller:
                return output
            # One position a sequence, so that a head that treats whole sequences alike still sees [M, 1, D].
            if isinstance(output, tuple):
                return (_picked(output[0], positions), *output[1:])
            output.last_hidden_state = _picked(output.last_hidden_state, positions)
            return output

        handle = base.register_forward_hook(pick)
        try:
            logits = _first(self.model(**inputs))
        finally:
            handle.remove()
        return logits.flatten(0, 1)

    def _decide(self, inputs: dict[str, Tensor], positions: Tensor) -> None:
        """Once, on the first batch; before any logits are returned, so that no score depends on which that was."""
        if self.checked:
            return
        with _deciding:
            if self.base is not None and not self.checked and not self._agrees(self.base, inputs, positions):
                self.base = None
            self.checked = True

    def _agrees(self, base: nn.Module, inputs: dict[str, Tensor], positions: Tensor) -> bool:
        everywhere = self._everywhere(inputs, positions)
        try:
            picked = self._through_base(base, inputs, positions)
            # Kernels round differently for other shapes; a head that mixes positions is off by far more.
            rounding = 64 * torch.finfo(everywhere.dtype).eps
            return picked.shape == everywhere.shape and bool(
                (picked - everywhere).abs().max() <= rounding * everywhere.abs().max().clamp(min=1)
            )
        except (RuntimeError, ValueError, IndexError, AttributeError, TypeError):
            return False


def _picked(hidden: Tensor, positions: Tensor) -> Tensor:
    """`[B, T, D]` -> `[M, 1, D]`."""
    return hidden.flatten(0, 1).index_select(0, positions)[:, None]


def _first(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output.logits
