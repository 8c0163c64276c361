"""Hooks that measure the states that a module mixes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module


def _states(values: Any, count: int) -> Sequence[Tensor] | None:
    """The first list or tuple of at least `count` tensors `[..., D]` of one shape among `values`, cut to `count`."""
    for value in values if isinstance(values, (list, tuple)) else ():
        if isinstance(value, (list, tuple)) and len(value) >= count:
            states = value[:count]
            if all(isinstance(x, Tensor) and x.dim() > 1 and x.shape == states[0].shape for x in states):
                return states
    return None


class Probe:
    """Hooks of one module that mixes states; sums norms over the tokens of the batches seen while attached.

    A module that mixes the states which it returns itself may be called with `positions` (flat in `B * T`). Only these
    positions then count: the mix is not read elsewhere, and the last state may be missing there.
    """

    def __init__(self, module: Module, parameter: str) -> None:
        self.module = module
        self.parameter = parameter
        self.sums: Tensor | None = None
        """`[1 + sources + 1]`: norm of the mix, of each weighted source, and the number of tokens."""
        self._shares: Tensor | None = None
        self._mask: Tensor | None = None
        self._positions: Tensor | None = None

    def attach(self, mask: Tensor | None) -> list[Any]:
        """Attach the hooks and return their handles; `mask` `[B, T]` is nonzero at the tokens that count."""
        self._mask, self._shares = mask, None
        before = self.module.register_forward_pre_hook(self._read_arguments, with_kwargs=True)
        return [before, self.module.register_forward_hook(self._read_output)]

    @torch.no_grad()
    def _read_arguments(self, module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # A sharded module has its whole weights during its forward; FSDP2 frees them before the forward hooks run.
        shares = torch.softmax(getattr(module, self.parameter).detach().float(), dim=0)
        states = _states([*args, *kwargs.values()], len(shares))
        if states is None:
            self._shares, self._positions = shares, kwargs.get("positions")
        else:
            self._add(states, shares)

    @torch.no_grad()
    def _read_output(self, module: Module, args: tuple[Any, ...], output: Any) -> None:
        # A module that returns all states mixes them itself: the head's mix of ELC-BERT's weighted_output variant.
        if self._shares is not None and (states := _states([output], len(self._shares))) is not None:
            self._add(states, self._shares, self._positions)
        self._shares = self._positions = None

    def _add(self, states: Sequence[Tensor], shares: Tensor, positions: Tensor | None = None) -> None:
        wide = torch.float32 if shares.device.type == "mps" else torch.float64
        mask = self._mask
        if mask is None or mask.shape != states[0].shape[:-1]:
            mask = torch.ones(states[0].shape[:-1], dtype=torch.bool)
        mask = mask.to(states[0].device).bool()
        if positions is not None:
            read = torch.zeros_like(mask).flatten().index_fill(0, positions, True)
            mask = mask & read.view(mask.shape)

        def over_tokens(vectors: Tensor) -> Tensor:
            norms = torch.linalg.vector_norm(vectors, dim=-1, dtype=torch.float32)
            return torch.where(mask, norms, 0.0).sum(dtype=wide)

        mixed = torch.zeros(states[0].shape, dtype=torch.float32, device=states[0].device)
        parts = []
        for share, state in zip(shares.unbind(), states):
            mixed.addcmul_(share, state.float())
            parts.append(share.to(wide) * over_tokens(state))
        found = torch.stack([over_tokens(mixed), *parts, mask.sum().to(wide)])
        self.sums = found if self.sums is None else self.sums + found
