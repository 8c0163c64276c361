"""Checkpoints that Composer's Trainer wrote: one file, a run's folder of them, or a folder of shards.

Composer itself loads with `weights_only=False`, which runs whatever a file says; here only tensors are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from elc_composer.checkpoints.names import step_of
from elc_composer.common.errors import DataError
from elc_composer.model import ElcConfig, ElcForMaskedLM
from elc_composer.model_files.fit import build
from elc_composer.model_files.safe_load import load_torch_file
from elc_composer.model_files.sharded_checkpoint import read_shards

WRAPPERS = ("module.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_orig_mod.")


def read_trainer_checkpoint(checkpoint: Path, config: ElcConfig) -> ElcForMaskedLM:
    """The model in a Composer checkpoint.

    Args:
        checkpoint: a file, a folder of a sharded checkpoint, or a folder of checkpoints, of which the newest is taken.
        config: the run's model config.

    Returns:
        The model, float32, in evaluation mode.

    Raises:
        DataError: if there is none, it is damaged, or its parameters do not fit the config.
    """
    found = find_checkpoint(checkpoint)
    if found.is_dir():
        state = plain_names(read_shards(found), found)
    else:
        content = load_torch_file(found, ignore_other_classes=True)
        state = plain_names(content.get("state", {}).get("model") if isinstance(content, dict) else None, found)
    return build(config, state, found)


def find_checkpoint(path: Path) -> Path:
    """The checkpoint itself: the path, or the newest one in it.

    Raises:
        DataError: if there is none.
    """
    if path.is_file() or (path / ".metadata").is_file():
        return path
    folders = [path, path / "checkpoints"]
    there = [each for folder in folders if folder.is_dir() for each in folder.iterdir()]
    whole = [each for each in there if each.is_file() or (each / ".metadata").is_file()]
    numbered = [(step, each) for each in whole if (step := step_of(each.name)) is not None]
    if not numbered:
        raise DataError(f"{path} holds no checkpoint named like ba100-rank0.pt; give the file, or the run's folder")
    return max(numbered)[1]


def plain_names(state: Any, source: Path) -> dict[str, Tensor]:
    """Parameters by the model's own names, without the trainer's and the wrappers' prefixes.

    Raises:
        DataError: if these are no parameters.
    """
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataError(f"{source} is no checkpoint of a Composer run: it has no parameters under state/model")
    names = {}
    for name, value in state.items():
        for wrapper in WRAPPERS:
            name = name.replace(wrapper, "")
        names[name.removeprefix("model.")] = value
    return names
