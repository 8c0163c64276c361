"""LAMB optimizer for whole and sharded parameters, without synchronization between host and device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from elc_composer.common.errors import ConfigError
from elc_composer.optim.lamb_foreach import LambSettings, Part, foreach_lamb_update
from elc_composer.optim.placement import local_gradient, local_part, placement_of


class Lamb(torch.optim.Optimizer):
    """LAMB (You et al. 2020, arXiv:1904.00962) as in the published training of ELC-BERT.

    update = m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay * param, and
    param -= lr * ratio * update, where ratio = ||param|| / ||update|| over the whole parameter in groups with positive
    weight decay (1 if either norm is zero) and 1 in the others.

    Parameters may be whole, DTensors (FSDP2, tensor parallel) or FSDP1's local slices (`use_orig_params=True`); in the
    sharded cases squared norms are summed over ranks in one all-reduce a step, so every rank must call `step` alike.
    No step synchronizes with the device: `step` counts are CPU tensors, as in torch's own optimizers. NaN and infinity
    in gradients are not detected; they reach the parameters as in torch's Adam.

    Args:
        params: parameters or parameter groups (see `parameter_groups`).
        lr: learning rate, >= 0. The published 1e-2 belongs to batches of about 4 M tokens.
        betas: decay of the running means of gradient and squared gradient, in [0, 1).
        eps: added outside the root, >= 0.
        weight_decay: decoupled decay, >= 0.

    Raises:
        ConfigError: a value out of its range, sparse gradients, or parameters whose own norm is not known (FSDP1
            without `use_orig_params`).
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-2,
        betas: Sequence[float] = (0.9, 0.98),
        eps: float = 1e-6,
        weight_decay: float = 0.1,
    ) -> None:
        defaults = {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters; its own values of lr, betas, eps and weight_decay override the defaults."""
        _check({**self.defaults, **param_group})
        super().add_param_group(param_group)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for values in self.state.values():
            if "step" in values:
                # Checkpoint loaders move it to the parameter's device; reading it there would synchronize every step.
                values["step"] = torch.as_tensor(values["step"], dtype=torch.float32).cpu()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient.

        Args:
            closure: evaluates the model and fills the gradients; called first, with gradients enabled.

        Returns:
            What the closure returned, or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        foreach_lamb_update([part for group in self.param_groups for part in self._parts(group)])
        return loss

    def _parts(self, group: dict[str, Any]) -> list[Part]:
        """This rank's parts of the group's parameters that have a gradient here or may have one on another rank."""
        beta1, beta2 = group["betas"]
        settings = LambSettings(float(group["lr"]), beta1, beta2, group["eps"], group["weight_decay"])
        parts = []
        for param in group["params"]:
            placement = placement_of(param)
            if param.grad is None:
                if placement.groups:
                    parts.append(Part(local_part(param), None, settings, placement))
                continue
            if param.grad.is_sparse:
                raise ConfigError("Lamb supports dense gradients only; create the embedding with sparse=False")
            state = self.state[param]
            if not state:
                # Not the default dtype: bfloat16 counts to 256 only.
                state["step"] = torch.tensor(0.0, dtype=torch.float32)
                state["exp_avg"] = torch.zeros_like(param, memory_format=torch.preserve_format)
                state["exp_avg_sq"] = torch.zeros_like(param, memory_format=torch.preserve_format)
            local_state = {name: local_part(value) for name, value in state.items()}
            parts.append(Part(local_part(param), local_gradient(param), settings, placement, local_state))
        return parts


def _check(group: dict[str, Any]) -> None:
    for name in ("lr", "eps", "weight_decay"):
        if not 0 <= group[name] < float("inf"):
            raise ConfigError(f"Lamb: {name} is {group[name]}; it must be a finite number, 0 or above")
    betas = group["betas"]
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise ConfigError(f"Lamb: betas are {list(betas)}; they must be two numbers from 0 up to, not including, 1")
