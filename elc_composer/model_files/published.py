"""Published ELC-BERT checkpoints: the training format (`model.bin`) and the Hugging Face layout.

Layouts: ltgoslo/elc-bert's training checkpoints hold a pickled dict with `model` and `args`, an `argparse.Namespace`;
its Hugging Face repositories hold config.json (`model_type` "ltgbert") beside pytorch_model.bin or model.safetensors.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from elc_composer.common.errors import DataError
from elc_composer.model import MIXING_RULES, ElcConfig, ElcForMaskedLM
from elc_composer.model_files.fit import build
from elc_composer.model_files.safe_load import load_safetensors, load_torch_file
from elc_composer.model_files.variants import detect_variant, sizes

PUBLISHED_FIELDS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "position_bucket_size",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "layer_norm_eps",
)
FRACTIONS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "layer_norm_eps")
WRAPPERS = re.compile(r"^((module|_orig_mod)\.)+")
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


@dataclass
class Hints:
    """What a published checkpoint may leave open."""

    layer_mixing: str | None = None
    """Variant, where names do not tell it."""
    config: Path | None = None
    """JSON file of the model's sizes, as the published configs/*.json; wins over a config beside the weights."""
    num_attention_heads: int | None = None
    """Heads of each layer, which no shape tells."""
    interleaved_qk: bool = False
    """Query and key rows of `in_proj_qk` alternate by head, as in some copies of LTG-BERT, not all queries first."""


def read_published(source: Path, hints: Hints | None = None) -> tuple[ElcForMaskedLM, list[str]]:
    """Read a published checkpoint, whichever layout it has.

    Args:
        source: a training checkpoint file, or a folder in the Hugging Face layout.
        hints: what the files leave open.

    Returns:
        The model (float32, evaluation mode), and one sentence on everything that was dropped, corrected or assumed.

    Raises:
        DataError: if the files are damaged, hold more than weights, leave something open or do not fit.
    """
    hints = hints or Hints()
    notes: list[str] = []
    if source.is_dir():
        state, settings = read_folder(source)
    elif source.is_file():
        state, settings = read_training_file(source)
    else:
        raise DataError(f"{source} is neither a checkpoint file nor a folder")
    if hints.config is not None:
        settings = read_json(hints.config)
    for name in [name for name in state if name.startswith("head.")]:
        notes.append(f"dropped {name} {tuple(state.pop(name).shape)}, of a fine-tuning head")
    if settings.get("pad_token_id", 3) != 3:
        notes.append(f"pad_token_id {settings['pad_token_id']} corrected to 3: in the published tokenizers 4 is [MASK]")
    written = (settings.get(key) for key in ("layer_mixing", "variant"))
    told = hints.layer_mixing or next((value for value in written if value in MIXING_RULES), None)
    if hints.num_attention_heads is not None:
        settings["num_attention_heads"] = hints.num_attention_heads
    config = make_config(state, settings, detect_variant(state, told, source), source)
    known = {*settings, *sizes(state, source)}
    notes += [f"assumed {name} {getattr(config, name)}" for name in PUBLISHED_FIELDS if name not in known]
    if hints.interleaved_qk:
        state = {name: contiguous_qk(name, value, config.num_attention_heads) for name, value in state.items()}
    if any(name.endswith("position_indices") for name in state):
        notes.append("dropped position_indices, equal to those that the model computes")
    return build(config, state, source), notes


def read_training_file(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Parameters of a training checkpoint, and its `args`."""
    content = load_torch_file(path, allowed=(argparse.Namespace,))
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a {type(content).__name__} instead of a dict with 'model'")
    args = content.get("args")
    settings = dict(vars(args)) if isinstance(args, argparse.Namespace) else {}
    return check_state(content.get("model", content), path), settings


def read_folder(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Parameters of a Hugging Face folder, and its config."""
    settings = read_json(folder / "config.json")
    if settings.get("model_type") not in ("ltgbert", "elc"):
        raise DataError(f"{folder / 'config.json'} has model_type '{settings.get('model_type')}' instead of 'ltgbert'")
    weights = next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)
    if weights is None:
        raise DataError(f"{folder} has none of {', '.join(WEIGHT_FILES)}")
    content = load_safetensors(weights) if weights.suffix == ".safetensors" else load_torch_file(weights)
    return check_state(content, weights), settings


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} holds no JSON object")
    return content


def check_state(state: Any, source: Path) -> dict[str, Tensor]:
    """The argument, if it maps names to dense tensors, without the prefixes of DDP and torch.compile."""
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataError(f"{source} holds no parameters by name, neither at its top nor under 'model'")
    for name, value in state.items():
        if value.layout is not torch.strided or value.is_meta or value.is_complex():
            raise DataError(f"{source}: {name} is no dense tensor of real numbers")
    return {WRAPPERS.sub("", str(name)): value for name, value in state.items()}


def make_config(state: Mapping[str, Tensor], settings: Mapping[str, Any], variant: str, source: Path) -> ElcConfig:
    """Sizes from shapes; the rest from the published config; what neither tells must be given.

    Raises:
        DataError: if shapes and config disagree, or the number of heads is nowhere.
    """
    fields = {name: settings[name] for name in PUBLISHED_FIELDS if name in settings}
    if "num_attention_heads" not in fields:
        raise DataError(
            f"{source} does not tell its number of attention heads; say it with --num-attention-heads, or give the "
            "published model's JSON with --config"
        )
    for name, size in sizes(state, source).items():
        if fields.setdefault(name, size) != size:
            raise DataError(f"{source}: the parameters' shapes say {name} {size}, the config {fields[name]}")
    for name, value in fields.items():
        wanted = (int, float) if name in FRACTIONS else (int,)
        if isinstance(value, bool) or not isinstance(value, wanted):
            raise DataError(f"{source}: {name} is {value!r} in its config, which is no {wanted[-1].__name__}")
    try:
        return ElcConfig(layer_mixing=variant, **fields)
    except (TypeError, ValueError) as error:
        raise DataError(f"{source}: {error}") from error


def contiguous_qk(name: str, value: Tensor, heads: int) -> Tensor:
    """Rows of an interleaved `in_proj_qk` (head 0's queries, head 0's keys, head 1's ...) with all queries first."""
    if ".in_proj_qk." not in name:
        return value
    if value.ndim == 0 or value.shape[0] % (2 * heads):
        return value  # of a wrong shape, which is told with all others
    rows = value.unflatten(0, (heads, 2, -1))
    return torch.cat((rows[:, 0], rows[:, 1]), dim=0).flatten(0, 1)
