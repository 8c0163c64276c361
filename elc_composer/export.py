"""Models out: a folder that transformers loads without this package.

    python -m elc_composer.export CHECKPOINT OUT [--tokenizer FOLDER] [--config FILE]

CHECKPOINT is a run's folder, its checkpoints folder, one checkpoint file, or one sharded checkpoint's folder.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from elc_composer.common.addresses import refuse_addresses
from elc_composer.common.errors import ConfigError, DataError
from elc_composer.model import ElcConfig, ElcForMaskedLM
from elc_composer.model_files.published import read_json
from elc_composer.model_files.trainer_checkpoint import read_trainer_checkpoint
from elc_composer.prepared.tokenizer_files import load_tokenizer, save_tokenizer

MODEL_CONFIG = "model_config.json"
TOKENIZER = "tokenizer"
CODE = sorted(
    f.name for f in files("elc_composer.model").iterdir() if f.name.endswith(".py") and f.name != "__init__.py"
)
AUTO_MAP = {
    "AutoConfig": "configuration_elc.ElcConfig",
    "AutoModel": "modeling_elc.ElcModel",
    "AutoModelForMaskedLM": "modeling_elc.ElcForMaskedLM",
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


def export_model(model: ElcForMaskedLM, tokenizer: Path | None, out: Path) -> Path:
    """Write a transformers folder: model.safetensors, config.json, tokenizer, the model's code and a model card.

    Args:
        model: any dtype and device; whole, not sharded.
        tokenizer: a tokenizer.json, a folder that holds one, or None to write none.
        out: folder to write; files of the same names are replaced.

    Returns:
        `out`.

    Raises:
        DataError: if the tokenizer cannot be read or its vocabulary is not the model's.
    """
    out.mkdir(parents=True, exist_ok=True)
    config = ElcConfig.from_dict(model.config.to_dict())
    config.kernels = "auto"
    if tokenizer is not None:
        write_tokenizer(tokenizer, config, out)
    model.save_pretrained(out)
    config.auto_map = AUTO_MAP
    config.architectures = [type(model).__name__]
    config.save_pretrained(out)
    for name in CODE:
        (out / name).write_text((files("elc_composer.model") / name).read_text(encoding="utf-8"), encoding="utf-8")
    card = CARD.format(
        variant=config.layer_mixing,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        vocabulary=config.vocab_size,
        length=config.max_position_embeddings,
    )
    (out / "README.md").write_text(card, encoding="utf-8")
    return out


def write_tokenizer(source: Path, config: ElcConfig, out: Path) -> None:
    """Write a tokenizer folder that puts [CLS] and [SEP] around a text and knows the model's longest sequence.

    Raises:
        DataError: if the tokenizer's special tokens or vocabulary are not the model's.
    """
    tokenizer = load_tokenizer(source)
    size = tokenizer.get_vocab_size()
    if size != config.vocab_size:
        raise DataError(
            f"{source} has {size} entries and the model {config.vocab_size}; give the tokenizer it was trained with"
        )
    save_tokenizer(tokenizer, out)
    settings = read_json(out / "tokenizer_config.json")
    settings["model_max_length"] = config.max_position_embeddings
    (out / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def beside(checkpoint: Path, name: str) -> Path | None:
    """What a run has put beside its checkpoints: `name` in the nearest of the checkpoint's folder and its parents."""
    start = checkpoint.absolute()
    return next((folder / name for folder in (start, *start.parents[:3]) if (folder / name).exists()), None)


def export_checkpoint(checkpoint: Path, out: Path, tokenizer: Path | None = None, config: Path | None = None) -> Path:
    """Turn a trainer's checkpoint into a transformers folder.

    Args:
        checkpoint: a run's folder, its checkpoints folder, a checkpoint file, or a sharded checkpoint's folder.
        out: folder to write.
        tokenizer: tokenizer.json or its folder; by default the run's own, `<run>/tokenizer`.
        config: the model's config as JSON; by default the run's own, `<run>/model_config.json`.

    Returns:
        `out`.

    Raises:
        DataError: if something is missing, damaged or does not fit.
    """
    config = config or beside(checkpoint, MODEL_CONFIG)
    if config is None:
        raise DataError(f"no {MODEL_CONFIG} beside {checkpoint}; give the model's config with --config")
    tokenizer = tokenizer or beside(checkpoint, TOKENIZER)
    if tokenizer is None:
        raise DataError(f"no {TOKENIZER} folder beside {checkpoint}; give the tokenizer with --tokenizer")
    try:
        settings = ElcConfig.from_dict(read_json(config))
    except (TypeError, ValueError) as error:
        raise DataError(f"{config}: {error}") from error
    return export_model(read_trainer_checkpoint(checkpoint, settings), tokenizer, out)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 0 if the folder was written, 1 with one line on what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m elc_composer.export", description="A checkpoint for transformers.")
    parser.add_argument("checkpoint", type=Path, help="run folder, checkpoint file, or folder of a sharded checkpoint")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--tokenizer", type=Path, help="tokenizer.json or its folder; by default the run's own")
    parser.add_argument("--config", type=Path, help="the model's config as JSON; by default the run's own")
    chosen = parser.parse_args(arguments)
    try:
        refuse_addresses(vars(chosen))
        out = export_checkpoint(chosen.checkpoint, chosen.out, chosen.tokenizer, chosen.config)
    except (ConfigError, DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{out}: load it with AutoModelForMaskedLM.from_pretrained({str(out)!r}, trust_remote_code=True)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
