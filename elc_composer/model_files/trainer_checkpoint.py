"""Reads the model from a checkpoint of Composer's Trainer: a file, a run folder, or a sharded checkpoint.

Composer (0.32.1) itself loads with `weights_only=False`, which runs code in the file. Here only tensors are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from elc_composer.checkpoints.names import step_of
from elc_composer.common.errors import DataError, one_line
from elc_composer.common.module_names import strip_all_wrappers
from elc_composer.common.run_folder import CHECKPOINTS
from elc_composer.model import ElcConfig, ElcForMaskedLM
from elc_composer.model_files.fit import build
from elc_composer.model_files.safe_load import load_torch_file
from elc_composer.model_files.sharded_checkpoint import read_shards


def read_trainer_checkpoint(checkpoint: Path, config: ElcConfig) -> ElcForMaskedLM:
    """The model in a Composer checkpoint.

    Args:
        checkpoint: a file, the folder of a sharded checkpoint, or a folder of checkpoints (the newest is read).
        config: the run's model config.

    Returns:
        The model, float32, in evaluation mode.

    Raises:
        DataError: there is none, it is damaged, or its parameters do not fit the config.
    """
    found = find_checkpoint(checkpoint)
    if found.is_dir():
        state = plain_names(read_shards(found), found)
    else:
        content = load_torch_file(found, ignore_other_classes=True)
        inner = content.get("state") if isinstance(content, dict) else None
        state = plain_names(inner.get("model") if isinstance(inner, dict) else None, found)
    return build(config, state, found)


def find_checkpoint(path: Path) -> Path:
    """`path` itself if it is a checkpoint, else the newest checkpoint in it or in its `checkpoints` folder.

    Raises:
        DataError: there is none, or a folder cannot be read.
    """
    if path.is_file() or (path / ".metadata").is_file():
        return path
    try:
        found = [each for folder in (path, path / CHECKPOINTS) if folder.is_dir() for each in folder.iterdir()]
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or one_line(error)})") from None
    whole = [each for each in found if each.is_file() or (each / ".metadata").is_file()]
    numbered = [(step, each) for each in whole if (step := step_of(each.name)) is not None]
    if not numbered:
        raise DataError(f"{path} holds no checkpoint named like ba100-rank0.pt; give the file, or the run's folder")
    return max(numbered)[1]


def plain_names(state: Any, source: Path) -> dict[str, Tensor]:
    """Parameters by the model's own names, without the prefixes of the trainer and of wrappers.

    Raises:
        DataError: `state` does not map names to tensors.
    """
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataError(f"{source} is not a checkpoint of a Composer run: it has no parameters under state/model")
    return {strip_all_wrappers(str(name)).removeprefix("model."): value for name, value in state.items()}
