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
from elc_composer.model import MIXING_RULES
from elc_composer.model_files.published import Hints, read_published
from elc_composer.publishing.model_card import Card
from elc_composer.publishing.model_folder import export_model
from elc_composer.publishing.options import add_card_options
from elc_composer.publishing.self_check import auto_class


def convert(
    source: Path,
    out: Path,
    hints: Hints | None = None,
    tokenizer: Path | None = None,
    card: Card | None = None,
    *,
    check: bool = False,
) -> list[str]:
    """Write a published checkpoint as a transformers folder.

    Args:
        source: training checkpoint file, or folder in the Hugging Face layout.
        out: folder to write.
        hints: information that the files lack.
        tokenizer: tokenizer.json or its folder; by default that of the source folder, if it has one.
        card: what the model card says beyond the model's shape; by default nothing.
        check: load the folder in a fresh process and compare its outputs with the model's (6 to 8 seconds).

    Returns:
        One note on each item that was dropped, corrected, assumed or not written.

    Raises:
        DataError: a file is missing or damaged, the files do not fit the model, or the check fails.
    """
    model, notes = read_published(source, hints)
    if tokenizer is None and (source / "tokenizer.json").is_file():
        tokenizer = source
    if tokenizer is None:
        notes.append("no tokenizer was written; give one with --tokenizer")
    export_model(model, tokenizer, out, card, check=check)
    return notes


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
    add_card_options(parser)
    chosen = parser.parse_args(arguments)
    hints = Hints(chosen.layer_mixing, chosen.config, chosen.num_attention_heads, chosen.interleaved_qk)
    try:
        refuse_addresses(vars(chosen))
        card = Card(str(chosen.out), license=chosen.license, language=chosen.language, datasets=tuple(chosen.dataset))
        notes = convert(chosen.source, chosen.out, hints, chosen.tokenizer, card, check=chosen.check)
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
