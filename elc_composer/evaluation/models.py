"""A model to evaluate, from wherever it lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer, PreTrainedTokenizerFast

from elc_composer.common.errors import ConfigError
from elc_composer.evaluation.config import Method
from elc_composer.export import MODEL_CONFIG, TOKENIZER, beside
from elc_composer.model import ElcConfig, ElcForMaskedLM
from elc_composer.model_files import read_trainer_checkpoint
from elc_composer.model_files.published import read_json

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
    """Load a transformers folder (an exported one, too) or a run's Composer checkpoint, in eval mode.

    Args:
        location: the folder or checkpoint.
        method: `causal` loads a causal model.
        dtype: float32, bfloat16, float16 or float64.
        device: where the model goes.
        trust_remote_code: run code that lies in the folder; folders of this project's models need none.
        tokenizer: folder of the tokenizer, where it is not beside the model.

    Raises:
        ConfigError: nothing there that could be loaded, or not the whole of a model.
        DataError: damaged files.
    """
    path = Path(location)
    if dtype not in DTYPES:
        raise ConfigError(f"dtype {dtype!r} is none of {', '.join(DTYPES)}")
    if not path.exists():
        raise ConfigError(f"{path} does not exist: give a checkpoint or a transformers folder")
    model, found = _read(path, method, tokenizer, trust_remote_code)
    return model.to(device=device, dtype=DTYPES[dtype]).eval(), found


def _read(path: Path, method: Method, tokenizer: str | None, trust_remote_code: bool) -> tuple[torch.nn.Module, Any]:
    own = not (path / "config.json").exists()
    if not own:
        own = read_json(path / "config.json").get("model_type") == ElcConfig.model_type
    if own and method is Method.causal:
        raise ConfigError(
            f"{path} holds a masked language model, which sees what follows: score it with another method"
        )
    if not (path / "config.json").exists():
        return _from_checkpoint(path, tokenizer)
    where = tokenizer or str(path)
    if own:
        return load_whole(ElcForMaskedLM, path), _tokenizer(PreTrainedTokenizerFast, where)
    kind = AutoModelForCausalLM if method is Method.causal else AutoModelForMaskedLM
    foreign = load_whole(kind, path, trust_remote_code=trust_remote_code)
    return foreign, _tokenizer(AutoTokenizer, where, trust_remote_code=trust_remote_code)


def load_whole(kind: Any, path: Path, **more: Any) -> torch.nn.Module:
    """A model all of whose parameters are in the folder: transformers makes up those that are not."""
    try:
        model, report = kind.from_pretrained(path, output_loading_info=True, **more)
    except Exception as error:  # each kind of damage has an exception of its own
        raise ConfigError(f"{path} cannot be loaded as {kind.__name__}: {_first_line(error)}") from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise ConfigError(
            f"{path} lacks {len(missing)} parameters of {type(model).__name__}, {missing[0]} among them, which would "
            "be random numbers: give a folder with the language model's head"
        )
    return model


def _tokenizer(kind: Any, where: str | Path, **more: Any) -> Any:
    try:
        return kind.from_pretrained(where, **more)
    except Exception as error:
        raise ConfigError(
            f"no tokenizer can be loaded from {where} ({_first_line(error)}): name one with --tokenizer"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _from_checkpoint(path: Path, tokenizer: str | None) -> tuple[ElcForMaskedLM, Any]:
    config, beside_it = beside(path, MODEL_CONFIG), beside(path, TOKENIZER)
    if config is None:
        raise ConfigError(
            f"{path} is no transformers folder (no config.json) and no run ({MODEL_CONFIG} is not beside it)"
        )
    where = tokenizer or beside_it
    if where is None:
        raise ConfigError(f"no {TOKENIZER} folder beside {path}: name one with --tokenizer")
    model = read_trainer_checkpoint(path, ElcConfig.from_dict(read_json(config)))
    return model, _tokenizer(PreTrainedTokenizerFast, where)
