"""Converts a published ELC-BERT or LTG-BERT checkpoint to a transformers folder.

    python -m elc_composer.convert SRC OUT [--layer-mixing base] [--tokenizer FILE] [--config FILE]

SRC is a training checkpoint (`*.bin`) or a folder in the published Hugging Face layout.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from elc_composer.common.addresses import refuse_addresses
from elc_composer.common.errors import ConfigError, DataError, one_line
from elc_composer.common.json_files import read_object
from elc_composer.export import export_model
from elc_composer.model import MIXING_RULES
from elc_composer.model_files.published import Hints, read_published


def convert(source: Path, out: Path, hints: Hints | None = None, tokenizer: Path | None = None) -> list[str]:
    """Write a published checkpoint as a transformers folder.

    Args:
        source: training checkpoint file, or folder in the Hugging Face layout.
        out: folder to write.
        hints: information that the files lack.
        tokenizer: tokenizer.json or its folder; by default that of the source folder, if it has one.

    Returns:
        One note on each item that was dropped, corrected, assumed or not written.

    Raises:
        DataError: a file is missing or damaged, or the files do not fit the model.
    """
    model, notes = read_published(source, hints)
    if tokenizer is None and (source / "tokenizer.json").is_file():
        tokenizer = source
    if tokenizer is None:
        notes.append("no tokenizer was written; give one with --tokenizer")
    export_model(model, tokenizer, out)
    return notes


def auto_class(folder: Path) -> str:
    """transformers' class that loads an exported folder with its head."""
    config = read_object(folder / "config.json")
    (name,) = config["architectures"]
    return next(auto for auto, code in config["auto_map"].items() if code.endswith(f".{name}"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns 0 if the folder was written, else 1 after an error message of one line."""
    parser = argparse.ArgumentParser(
        prog="python -m elc_composer.convert", description="Convert a published checkpoint for transformers."
    )
    parser.add_argument("source", type=Path, help="training checkpoint (.bin) or Hugging Face folder")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--layer-mixing", choices=MIXING_RULES, help="variant, if parameter names do not determine it")
    parser.add_argument("--tokenizer", type=Path, help="tokenizer.json or its folder")
    parser.add_argument("--config", type=Path, help="JSON of the model's sizes, as the published configs/*.json")
    parser.add_argument("--num-attention-heads", type=int, help="heads of each layer, if no config has them")
    parser.add_argument(
        "--interleaved-qk", action="store_true", help="in_proj_qk is split per head, for contents and positions"
    )
    chosen = parser.parse_args(arguments)
    hints = Hints(chosen.layer_mixing, chosen.config, chosen.num_attention_heads, chosen.interleaved_qk)
    try:
        refuse_addresses(vars(chosen))
        notes = convert(chosen.source, chosen.out, hints, chosen.tokenizer)
    except (ConfigError, DataError, OSError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1
    for note in notes:
        print(f"note: {note}")
    loader = auto_class(chosen.out)
    print(f"{chosen.out}: load it with {loader}.from_pretrained({str(chosen.out)!r}, trust_remote_code=True)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
