"""Writes a trained model as a folder that transformers loads without this package.

    python -m elc_composer.export CHECKPOINT OUT [--tokenizer FOLDER] [--config FILE]

CHECKPOINT is a run's folder, its checkpoints folder, one checkpoint file, or the folder of one sharded checkpoint.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from elc_composer.common.addresses import refuse_addresses
from elc_composer.common.errors import ConfigError, DataError, one_line
from elc_composer.common.files import new_file_mode, write_text
from elc_composer.common.run_folder import MODEL_CONFIG, TOKENIZER
from elc_composer.model import TASK_MODELS, ElcConfig, ElcModel
from elc_composer.model_files.run_model import beside, read_model_config
from elc_composer.model_files.trainer_checkpoint import read_trainer_checkpoint
from elc_composer.prepared.tokenizer_files import load_tokenizer, save_tokenizer

CODE = sorted(
    f.name for f in files("elc_composer.model").iterdir() if f.name.endswith(".py") and f.name != "__init__.py"
)
AUTO_MAP = {
    "AutoConfig": "configuration_elc.ElcConfig",
    "AutoModel": "modeling_elc.ElcModel",
    "AutoModelForMaskedLM": "modeling_elc.ElcForMaskedLM",
    **{name: f"task_models.{model.__name__}" for name, model in TASK_MODELS.items()},
}
CARD = """---
library_name: transformers
pipeline_tag: fill-mask
---
# ELC-BERT ({variant})

A masked language model in which every layer reads a learned, weighted sum of all earlier layers' outputs
(Georges Gabriel Charpentier & Samuel 2023). {parameters:,} parameters; {layers} layers of width {width}; vocabulary of
{vocabulary:,}; trained on sequences of up to {length} tokens.

```python
from transformers import AutoModelForMaskedLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("PATH")
model = AutoModelForMaskedLM.from_pretrained("PATH", trust_remote_code=True)
```

`trust_remote_code` runs the Python files of this folder: read them first.
"""


def export_model(model: ElcModel, tokenizer: Path | None, out: Path) -> Path:
    """Write a transformers folder: model.safetensors, config.json, tokenizer, the model's code and a model card.

    Args:
        model: any dtype and device; whole, not sharded.
        tokenizer: a tokenizer.json, a folder that holds one, or None to write no tokenizer.
        out: folder to write; files of the same names are replaced.

    Returns:
        `out`.

    Raises:
        DataError: the tokenizer cannot be read, or its vocabulary does not have the model's size.
    """
    out.mkdir(parents=True, exist_ok=True)
    config = ElcConfig.from_dict(model.config.to_dict())
    config.kernels = "auto"
    # transformers before 4.56 reads only the older name.
    setattr(config, "dtype" if hasattr(config, "dtype") else "torch_dtype", model.dtype)
    if tokenizer is not None:
        write_tokenizer(tokenizer, config, out)
    model.save_pretrained(out)
    make_readable(out)
    config.auto_map = AUTO_MAP
    config.architectures = [type(model).__name__]
    config.save_pretrained(out)
    for name in CODE:
        write_text(out / name, (files("elc_composer.model") / name).read_text(encoding="utf-8"))
    card = CARD.format(
        variant=config.layer_mixing,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        vocabulary=config.vocab_size,
        length=config.max_position_embeddings,
    )
    write_text(out / "README.md", card)
    return out


def make_readable(folder: Path) -> None:
    """Give files the mode that this process gives new files; safetensors makes its own readable by the owner only."""
    for path in folder.iterdir():
        if path.is_file():
            path.chmod(new_file_mode())


def write_tokenizer(source: Path, config: ElcConfig, out: Path) -> None:
    """Write a tokenizer folder with the model's longest sequence; see `save_tokenizer`.

    Raises:
        DataError: the tokenizer cannot be read, or its vocabulary does not have the model's size.
    """
    tokenizer = load_tokenizer(source)
    size = tokenizer.get_vocab_size()
    if size != config.vocab_size:
        raise DataError(
            f"{source} has {size} entries, the model {config.vocab_size}; give the tokenizer that it was trained with"
        )
    save_tokenizer(tokenizer, out, config.max_position_embeddings)


def export_checkpoint(checkpoint: Path, out: Path, tokenizer: Path | None = None, config: Path | None = None) -> Path:
    """Write the model of a trainer's checkpoint as a transformers folder.

    Args:
        checkpoint: a run's folder, its checkpoints folder, a checkpoint file, or a sharded checkpoint's folder.
        out: folder to write.
        tokenizer: tokenizer.json or its folder; by default `<run>/tokenizer`.
        config: the model's config as JSON; by default `<run>/model_config.json`.

    Returns:
        `out`.

    Raises:
        DataError: a file is missing or damaged, or the files do not fit each other.
    """
    config = config or beside(checkpoint, MODEL_CONFIG)
    if config is None:
        raise DataError(f"no {MODEL_CONFIG} beside {checkpoint}; give the model's config with --config")
    tokenizer = tokenizer or beside(checkpoint, TOKENIZER)
    if tokenizer is None:
        raise DataError(f"no {TOKENIZER} folder beside {checkpoint}; give the tokenizer with --tokenizer")
    return export_model(read_trainer_checkpoint(checkpoint, read_model_config(config)), tokenizer, out)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns 0 if the folder was written, else 1 after an error message of one line."""
    parser = argparse.ArgumentParser(
        prog="python -m elc_composer.export", description="Write a checkpoint as a folder for transformers."
    )
    parser.add_argument("checkpoint", type=Path, help="run folder, checkpoint file, or folder of a sharded checkpoint")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--tokenizer", type=Path, help="tokenizer.json or its folder; default: the run's")
    parser.add_argument("--config", type=Path, help="the model's config as JSON; default: the run's")
    chosen = parser.parse_args(arguments)
    try:
        refuse_addresses(vars(chosen))
        out = export_checkpoint(chosen.checkpoint, chosen.out, chosen.tokenizer, chosen.config)
    except (ConfigError, DataError, OSError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1
    print(f"{out}: load it with AutoModelForMaskedLM.from_pretrained({str(out)!r}, trust_remote_code=True)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
