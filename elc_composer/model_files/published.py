"""Reads published ELC-BERT checkpoints: training files (`model.bin`) and folders in the Hugging Face layout.

A training checkpoint of ltgoslo/elc-bert is a pickled dict with `model` and `args`, an `argparse.Namespace`. A Hugging
Face repository holds config.json (`model_type` "ltgbert") and pytorch_model.bin or model.safetensors.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from elc_composer.common.errors import DataError
from elc_composer.common.json_files import read_object
from elc_composer.common.module_names import strip_all_wrappers
from elc_composer.model import (
    MIXING_RULES,
    TASK_MODELS,
    ElcConfig,
    ElcForMaskedLM,
    ElcForSequenceClassification,
    ElcModel,
)
from elc_composer.model_files.fit import build
from elc_composer.model_files.qk_layout import CONTENTS, PER_HEAD, POSITIONS, WHOLE, Split, contiguous_qk, split_in_code
from elc_composer.model_files.run_model import INTEGERS, NUMBERS, check_fields
from elc_composer.model_files.safe_load import load_safetensors, load_torch_file
from elc_composer.model_files.variants import detect_variant, sizes

PUBLISHED_FIELDS = (*INTEGERS, *NUMBERS)
HEAD = "head.nonlinearity.5.weight"
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


@dataclass
class Hints:
    """Information that a published checkpoint may lack."""

    layer_mixing: str | None = None
    """Variant; needed if the parameter names do not determine it."""
    config: Path | None = None
    """JSON file of the model's sizes, as the published configs/*.json; overrides a config beside the weights."""
    num_attention_heads: int | None = None
    """Heads of each layer; the shapes do not determine it."""
    interleaved_qk: bool = False
    """`in_proj_qk` is split per head, for contents and positions; see `qk_layout`."""


def read_published(source: Path, hints: Hints | None = None) -> tuple[ElcModel, list[str]]:
    """Read a published checkpoint of either layout.

    Args:
        source: a training checkpoint file, or a folder in the Hugging Face layout.
        hints: information that the files lack.

    Returns:
        The model (float32, evaluation mode), and one note on each item that was dropped, corrected or assumed.

    Raises:
        DataError: the files are damaged, hold more than weights, lack information, or do not fit the model.
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
        settings = read_object(hints.config)
    kind = find_class(state, settings, notes)
    if settings.get("pad_token_id", 3) != 3:
        notes.append(f"pad_token_id {settings['pad_token_id']} corrected to 3: in the published tokenizers 4 is [MASK]")
    written = (settings.get(key) for key in ("layer_mixing", "variant"))
    told = hints.layer_mixing or next((value for value in written if value in MIXING_RULES), None)
    if hints.num_attention_heads is not None:
        settings["num_attention_heads"] = hints.num_attention_heads
    config = make_config(state, settings, detect_variant(state, told, source), source)
    if kind is not ElcForMaskedLM:
        set_labels(config, state, settings, source, notes)
    known = {*settings, *sizes(state, source)}
    notes += [f"assumed {name} {getattr(config, name)}" for name in PUBLISHED_FIELDS if name not in known]
    if _is_per_head(source, hints, config.layer_mixing, notes):
        state = {name: contiguous_qk(name, value, config.num_attention_heads) for name, value in state.items()}
    if any(name.endswith("position_indices") for name in state):
        notes.append("dropped position_indices, equal to the table that the model computes")
    return build(config, state, source, kind), notes


def find_class(state: dict[str, Tensor], settings: Mapping[str, Any], notes: list[str]) -> type[ElcModel]:
    """The class of a checkpoint: masked language model, or that of its fine-tuning head (`head.*`).

    `architectures` of the config names it; else a checkpoint with the masked language model's head is one. The other
    head is removed from `state`.
    """
    heads = [name for name in state if name.startswith("head.")]
    if not heads:
        return ElcForMaskedLM
    named = [str(name) for name in settings.get("architectures") or []]
    kinds = list(TASK_MODELS.values())
    kind = next((kind for kind in kinds for name in named if name.endswith(kind.__name__.removeprefix("Elc"))), None)
    if kind is None and any(name.startswith("classifier.") for name in state):
        for name in heads:
            notes.append(f"dropped {name} {tuple(state.pop(name).shape)}, part of a fine-tuning head")
        return ElcForMaskedLM
    if kind is None:
        kind = ElcForSequenceClassification
        notes.append("assumed that head.* classifies sequences: the config names no class")
    for name in [name for name in state if name.startswith("classifier.")]:
        notes.append(f"dropped {name} {tuple(state.pop(name).shape)}: the fine-tuning head is kept instead")
    return kind


def set_labels(
    config: ElcConfig, state: Mapping[str, Tensor], settings: Mapping[str, Any], source: Path, notes: list[str]
) -> None:
    """Set the fields of a fine-tuning head in a config: labels by the head's size, their names as published."""
    last = state.get(HEAD)
    if last is None or last.dim() != 2:
        raise DataError(f"{source}: {HEAD} is missing or not a matrix, but there is a fine-tuning head")
    names = settings.get("id2label")
    config.num_labels = len(last)
    if settings.get("num_labels", len(last)) != len(last):
        notes.append(f"num_labels {settings['num_labels']} corrected to {len(last)}, the rows of {HEAD}")
    if isinstance(names, dict) and set(names) == {str(number) for number in range(len(last))}:
        config.id2label = {int(number): str(name) for number, name in names.items()}
        config.label2id = {name: number for number, name in config.id2label.items()}
    elif names:
        notes.append(f"dropped id2label, which does not name the labels 0 to {len(last) - 1}")
    for name in ("problem_type", "classifier_dropout", "classifier_token"):
        if settings.get(name) is not None:
            setattr(config, name, settings[name])


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
    settings = read_object(folder / "config.json")
    if settings.get("model_type") not in ("ltgbert", "elc"):
        raise DataError(f"{folder / 'config.json'} has model_type '{settings.get('model_type')}' instead of 'ltgbert'")
    weights = next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)
    if weights is None:
        raise DataError(f"{folder} has none of {', '.join(WEIGHT_FILES)}")
    content = load_safetensors(weights) if weights.suffix == ".safetensors" else load_torch_file(weights)
    return check_state(content, weights), settings


def check_state(state: Any, source: Path) -> dict[str, Tensor]:
    """Check that `state` maps names to dense real tensors; returns it without the prefixes of wrappers."""
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataError(f"{source} holds no parameters by name, neither at its top nor under 'model'")
    for name, value in state.items():
        if value.layout is not torch.strided or value.is_meta or value.is_complex():
            raise DataError(f"{source}: {name} is not a dense tensor of real numbers")
    return {strip_all_wrappers(str(name)): value for name, value in state.items()}


def make_config(state: Mapping[str, Tensor], settings: Mapping[str, Any], variant: str, source: Path) -> ElcConfig:
    """Model config: sizes from the parameters' shapes, the other fields from the published config or hints.

    Raises:
        DataError: shapes and config disagree, a field is invalid, or the number of heads is missing.
    """
    fields = {name: settings[name] for name in PUBLISHED_FIELDS if name in settings}
    if "num_attention_heads" not in fields:
        raise DataError(
            f"{source} does not give its number of attention heads; set --num-attention-heads, or name the published "
            "model's JSON with --config"
        )
    for name, size in sizes(state, source).items():
        if fields.setdefault(name, size) != size:
            raise DataError(f"{source}: {name} is {size} by the parameters' shapes, but {fields[name]!r} in the config")
    check_fields(fields, source)
    try:
        return ElcConfig(layer_mixing=variant, **fields)
    except (TypeError, ValueError) as error:
        raise DataError(f"{source}: {error}") from error


def _is_per_head(source: Path, hints: Hints, variant: str, notes: list[str]) -> bool:
    """Whether `in_proj_qk` is split per head: by the folder's modeling code if it has any, else by the hint."""
    split = split_in_code(source) if source.is_dir() else Split()
    if split.is_mixed:
        raise DataError(
            f"{source}: its modeling code splits in_proj_qk into queries and keys in two ways (contents: "
            f"{split.layouts[CONTENTS]}; positions: {split.layouts[POSITIONS]}), which this model does not support; "
            "no option converts such a checkpoint"
        )
    if split.is_all(WHOLE) and hints.interleaved_qk:
        raise DataError(f"{source}: its modeling code splits in_proj_qk into {WHOLE}; leave out --interleaved-qk")
    if split.is_all(PER_HEAD):
        notes.append("reordered the rows of in_proj_qk: the folder's modeling code splits them per head")
        return True
    if variant == "ltg" and not split.layouts and not hints.interleaved_qk:
        notes.append(
            f"assumed that in_proj_qk holds {WHOLE} (contents and positions), since there is no modeling code; public "
            "LTG-BERT code splits positions per head: compare logits with the original before using the model"
        )
    return hints.interleaved_qk
