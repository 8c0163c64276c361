"""Parameter names without the prefixes of DDP, FSDP, checkpointing and torch.compile; layer labels from names."""

from __future__ import annotations

import re
from collections.abc import Iterable

from torch.nn import Module
from torch.nn.parallel import DistributedDataParallel

DDP_MODULE = "module"
WRAPPER_MODULES = ("_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_orig_mod")
"""Submodules that FSDP1, activation checkpointing and torch.compile put around a module; DDP's is `DDP_MODULE`."""


def strip_wrappers(name: str) -> str:
    """`name` without the parts that FSDP1, activation checkpointing and torch.compile add, at any depth."""
    return ".".join(part for part in name.split(".") if part not in WRAPPER_MODULES)


def strip_all_wrappers(name: str) -> str:
    """As `strip_wrappers`, and without leading `module.` of DDP: for names whose model is not at hand."""
    name = strip_wrappers(name)
    while name.startswith(f"{DDP_MODULE}."):
        name = name.removeprefix(f"{DDP_MODULE}.")
    return name


def clean_name(name: str, model: Module) -> str:
    """`name` of a parameter or module of `model` as the model's author wrote it."""
    if isinstance(model, DistributedDataParallel):
        name = name.removeprefix(f"{DDP_MODULE}.")
    return strip_wrappers(name)


def layer_labels(names: Iterable[str]) -> dict[str, str]:
    """A label for each parameter that holds mixing weights.

    The last number in the name, counted from 1, so that layer n reads sources 0 (the embedding) to n-1; `head` for a
    name without a number. Where two names would share a label, both keep their name. Layers come in order, then others.
    """
    numbers = {name: re.findall(r"(?<![^.])\d+(?![^.])", name) for name in names}
    labels = {name: str(int(found[-1]) + 1) if found else "head" for name, found in numbers.items()}
    taken = list(labels.values())
    unique = {name: label if taken.count(label) == 1 else name for name, label in labels.items()}
    return dict(
        sorted(unique.items(), key=lambda item: (not item[1].isdigit(), int(item[1]) if item[1].isdigit() else 0))
    )


def units(names: Iterable[str]) -> dict[str, str]:
    """The layer or, outside layers, the top-level part that each parameter belongs to.

    `model.transformer.layers.3.mlp.weight` is of `transformer.layers.3`, `model.embedding.weight` of `embedding`: the
    path up to its first number, else its first part, after the path that all names share.
    """
    parts = {name: name.split(".") for name in names}
    shared = 0
    while parts and all(len(path) > shared + 1 for path in parts.values()):
        if len({path[shared] for path in parts.values()}) > 1 or next(iter(parts.values()))[shared].isdigit():
            break
        shared += 1
    found = {}
    for name, path in parts.items():
        end = next((i for i, part in enumerate(path) if i >= shared and part.isdigit()), shared)
        found[name] = ".".join(path[shared : end + 1])
    return found
