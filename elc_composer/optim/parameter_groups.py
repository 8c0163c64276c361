"""Parameter groups with and without weight decay: biases, norms, embeddings and layer weights do not decay."""

from __future__ import annotations

from typing import Any

from torch import nn

from elc_composer.common.module_names import DDP_MODULE, WRAPPER_MODULES

WRAPPERS = frozenset({*WRAPPER_MODULES, DDP_MODULE})
"""Components that FSDP1, activation checkpointing, torch.compile and DDP put into parameter names."""


def plain_name(name: str) -> str:
    """Parameter name without the components that wrapping modules add."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def decays(module: nn.Module, leaf: str) -> bool:
    """Whether weight decay applies to parameter `leaf` of the module that holds it.

    Embeddings and norms are recognized by the module's type (norms by class name, since every library has its own),
    the others by the parameter's name: `bias`, `..._embedding(s)`, `..._layer_weights`. Shapes are not used: those of
    FSDP1 are flat.
    """
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return False
    kind = type(module).__name__.lower().rstrip("123d")
    if kind.endswith("norm"):
        return False
    return not leaf.endswith(("bias", "embedding", "embeddings", "layer_weights"))


def no_decay_names(model: nn.Module) -> list[str]:
    """Names of the trained parameters without weight decay, in the model's order; tied parameters appear once."""
    return [name for name, param, decay in _walk(model) if not decay]


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two optimizer groups: parameters with `weight_decay` and parameters without; empty groups are left out.

    Frozen parameters are in neither. A tied parameter appears once, and decays only if it would decay in each of its
    modules: an output matrix tied to the word embedding does not.
    """
    walked = list(_walk(model))
    groups = [
        {"params": [param for _, param, decay in walked if decay], "weight_decay": weight_decay},
        {"params": [param for _, param, decay in walked if not decay], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _walk(model: nn.Module) -> list[tuple[str, nn.Parameter, bool]]:
    found: dict[int, tuple[str, nn.Parameter, bool]] = {}
    for prefix, module in model.named_modules():
        for leaf, param in module.named_parameters(recurse=False):
            if not param.requires_grad:
                continue
            decay = decays(module, leaf)
            name, _, elsewhere = found.get(id(param), (plain_name(f"{prefix}.{leaf}" if prefix else leaf), param, True))
            found[id(param)] = (name, param, decay and elsewhere)
    return list(found.values())
