"""Computes logits at chosen positions only, for any language model; the head dominates the cost of a small model."""

from __future__ import annotations

import inspect
import threading
from typing import Any

import torch
from torch import Tensor, nn

from elc_composer.common.module_names import DDP_MODULE, WRAPPER_MODULES

_deciding = threading.Lock()
"""Held by the thread that compares. A lock cannot be copied, and `PositionLogits` is copied with the model it is in."""


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside the wrappers of DDP, FSDP1, activation checkpointing and torch.compile."""
    names = (DDP_MODULE, *WRAPPER_MODULES)
    while inner := next((each for name in names if isinstance(each := getattr(model, name, None), nn.Module)), None):
        model = inner
    return model


class PositionLogits:
    """Calls a masked or causal language model and returns its logits at given positions.

    It uses the first of these ways that the model supports:

    1. The model's forward takes `masked_positions` (this project's models).
    2. A transformers model with a base model: a hook passes only the hidden states at the positions to the head. The
       head can be any code, so the first call compares the result with the full logits; if they differ, way 3 is used.
    3. The model computes logits at all positions, and those at the positions are selected.
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
            attention_mask: `[B, T]`, nonzero at real tokens; None if all tokens are real.
            positions: `[M]` int64, indices into the flattened `[B * T]`.

        Returns:
            `[M, V]` in the model's dtype.
        """
        if self.takes_positions:
            outputs = self.model(
                input_ids=input_ids, attention_mask=attention_mask, masked_positions=positions, return_dict=True
            )
            return outputs.logits
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
            # One sequence per position: the head still gets three dimensions, [M, 1, D].
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
        """Compare once, before any logits are returned, so that scores do not depend on which batch came first."""
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
            # Kernels round differently for other shapes; a head that mixes positions differs by far more.
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
