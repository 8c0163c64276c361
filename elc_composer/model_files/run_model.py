"""Finds and reads the model config and tokenizer that a run stores beside its checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from elc_composer.common.errors import DataError, one_line
from elc_composer.common.json_files import read_object
from elc_composer.model import ElcConfig

INTEGERS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "position_bucket_size",
)
NUMBERS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "layer_norm_eps")
LARGEST = 2**31 - 1
"""Largest size that a config may name; a damaged one must not make torch allocate more than that."""


def beside(checkpoint: Path, name: str) -> Path | None:
    """The file or folder `name` of a run: in the checkpoint's folder or the nearest of its three parents."""
    start = checkpoint.absolute()
    return next((folder / name for folder in (start, *start.parents[:3]) if (folder / name).exists()), None)


def read_model_config(path: Path) -> ElcConfig:
    """Read a run's `model_config.json`, or another JSON file with fields of `ElcConfig`.

    Raises:
        DataError: it cannot be read, or a field is invalid.
    """
    fields = read_object(path)
    check_fields(fields, path)
    try:
        return ElcConfig.from_dict(fields)
    except Exception as error:  # transformers' own fields raise any exception for a value of the wrong type
        raise DataError(f"{path}: not a valid model config: {one_line(error)}") from error


def check_fields(fields: Mapping[str, Any], source: Path) -> None:
    """Check types and ranges of the numeric fields of a model config.

    Raises:
        DataError: with the first invalid field.
    """
    for name in (*INTEGERS, *NUMBERS):
        if name not in fields:
            continue
        value = fields[name]
        if isinstance(value, bool) or not isinstance(value, (int, float) if name in NUMBERS else int):
            kind = "a number" if name in NUMBERS else "an integer"
            raise DataError(f"{source}: {name} is {value!r} in the config, must be {kind}")
        if value > LARGEST:
            raise DataError(f"{source}: {name} is {value} in the config, must be at most {LARGEST:,}")
