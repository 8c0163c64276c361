"""Loads a model and its tokenizer for evaluation: a transformers folder, an exported folder, or a run's checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer, PreTrainedTokenizerFast

from elc_composer.common.errors import ConfigError, one_line
from elc_composer.common.json_files import read_object
from elc_composer.common.run_folder import MODEL_CONFIG, TOKENIZER
from elc_composer.evaluation.config import Method
from elc_composer.model import ElcConfig, ElcForMaskedLM
from elc_composer.model_files.run_model import beside, read_model_config
from elc_composer.model_files.trainer_checkpoint import read_trainer_checkpoint

CONFIG = "config.json"
TOKENIZER_FILES = ("tokenizer*", "vocab*", "*.model", "*.codes", "*.tiktoken")
"""Patterns of file names, at least one of which every transformers tokenizer has."""
DTYPES = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16", "float64")}


def load_model_and_tokenizer(
    location: str | Path,
    *,
    method: Method = Method.original,
    dtype: str = "float32",
    device: torch.device | str = "cpu",
    trust_remote_code: bool = False,
    tokenizer: str | None = None,
) -> tuple[torch.nn.Module, Any]:
    """Load a transformers folder (also an exported one) or a run's Composer checkpoint, in eval mode.

    Args:
        location: the folder or checkpoint.
        method: `causal` loads a causal model.
        dtype: float32, bfloat16, float16 or float64.
        device: device of the model.
        trust_remote_code: run code in the folder; folders of this project's models do not need it.
        tokenizer: folder of the tokenizer; default: beside the model.

    Raises:
        ConfigError: there is no model or tokenizer that can be loaded, or parameters are missing.
        DataError: a file is damaged.
    """
    path = Path(location)
    if dtype not in DTYPES:
        raise ConfigError(f"dtype is {dtype!r}, must be one of {', '.join(DTYPES)}")
    if not path.exists():
        raise ConfigError(f"{path} does not exist: give a checkpoint or a transformers folder")
    model, found = _read(path, method, tokenizer, trust_remote_code)
    return model.to(device=device, dtype=DTYPES[dtype]).eval(), found


def is_exported(path: Path) -> bool:
    """Whether a folder holds a model of this project in transformers' layout.

    Raises:
        DataError: its config.json is damaged.
    """
    return (path / CONFIG).exists() and read_object(path / CONFIG).get("model_type") == ElcConfig.model_type


def load_whole(kind: Any, path: Path, **more: Any) -> torch.nn.Module:
    """Load a model from a folder that must hold all of its parameters; transformers would initialize missing ones.

    Raises:
        ConfigError: the folder cannot be loaded, or lacks parameters.
    """
    try:
        model, report = kind.from_pretrained(path, output_loading_info=True, **more)
    except Exception as error:  # each kind of damage has its own exception
        raise ConfigError(f"{path} cannot be loaded as {kind.__name__}: {one_line(error)}") from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise ConfigError(
            f"{path} lacks {len(missing)} parameters of {type(model).__name__}, such as {missing[0]}; they would be "
            "initialized randomly: give a folder with the language model's head"
        )
    return model


def _read(path: Path, method: Method, tokenizer: str | None, trust_remote_code: bool) -> tuple[torch.nn.Module, Any]:
    is_checkpoint = not (path / CONFIG).exists()
    is_own = is_checkpoint or is_exported(path)
    if is_own and method is Method.causal:
        raise ConfigError(
            f"{path} holds a masked language model, which sees the following tokens: use another method than causal"
        )
    if is_checkpoint:
        return _from_checkpoint(path, tokenizer)
    where = Path(tokenizer or path)
    if is_own:
        return load_whole(ElcForMaskedLM, path), load_tokenizer_folder(PreTrainedTokenizerFast, where)
    kind = AutoModelForCausalLM if method is Method.causal else AutoModelForMaskedLM
    foreign = load_whole(kind, path, trust_remote_code=trust_remote_code)
    return foreign, load_tokenizer_folder(AutoTokenizer, where, trust_remote_code=trust_remote_code)


def _from_checkpoint(path: Path, tokenizer: str | None) -> tuple[ElcForMaskedLM, Any]:
    config, tokenizer_beside = beside(path, MODEL_CONFIG), beside(path, TOKENIZER)
    if config is None:
        raise ConfigError(
            f"{path} is not a transformers folder (no {CONFIG}) and not a run ({MODEL_CONFIG} is not beside it)"
        )
    where = tokenizer or tokenizer_beside
    if where is None:
        raise ConfigError(f"no {TOKENIZER} folder beside {path}: name one with --tokenizer")
    model = read_trainer_checkpoint(path, read_model_config(config))
    return model, load_tokenizer_folder(PreTrainedTokenizerFast, Path(where))


def load_tokenizer_folder(kind: Any, folder: Path, **more: Any) -> Any:
    """Load a tokenizer with the class `kind` from a folder that must hold one of its files.

    Raises:
        ConfigError: the folder holds no tokenizer, or a damaged one.
    """
    remedy = "name a folder with tokenizer files with --tokenizer"
    if not folder.is_dir():
        raise ConfigError(f"no tokenizer can be loaded from {folder} (not a folder): {remedy}")
    if not any(file.is_file() for pattern in TOKENIZER_FILES for file in folder.glob(pattern)):
        raise ConfigError(f"no tokenizer can be loaded from {folder} (it has no tokenizer files): {remedy}")
    try:
        found = kind.from_pretrained(folder, **more)
    except Exception as error:  # each kind of damage has its own exception
        raise ConfigError(f"no tokenizer can be loaded from {folder} ({one_line(error)}): {remedy}") from error
    # transformers 5 makes up an empty tokenizer if the vocabulary file is missing; transformers 4 raises.
    files = set((getattr(found, "vocab_files_names", None) or {}).values())
    if getattr(found, "is_fast", False):
        files.add("tokenizer.json")
    # Byte-level tokenizers such as ByT5's have no vocabulary file.
    if files and not any((folder / name).is_file() for name in files):
        raise ConfigError(
            f"no tokenizer can be loaded from {folder} (it has none of {', '.join(sorted(files))}): {remedy}"
        )
    return found
