"""Writes a trained model as a folder that transformers loads without this package.

    python -m elc_composer.export CHECKPOINT OUT [--tokenizer FOLDER] [--config FILE] [--license ID] [--no-check]

CHECKPOINT is a run's folder, its checkpoints folder, one checkpoint file, or the folder of one sharded checkpoint.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from elc_composer.checkpoints.names import step_of
from elc_composer.common.addresses import refuse_addresses
from elc_composer.common.errors import ConfigError, DataError, one_line
from elc_composer.common.run_folder import CONFIG, MODEL_CONFIG, TOKENIZER
from elc_composer.model_files.run_model import beside, read_model_config
from elc_composer.model_files.trainer_checkpoint import find_checkpoint, read_trainer_checkpoint
from elc_composer.publishing.facts import RunFacts, read_facts
from elc_composer.publishing.model_card import Card
from elc_composer.publishing.model_folder import export_model
from elc_composer.publishing.options import add_card_options

__all__ = ["export_checkpoint", "export_model", "main"]


def export_checkpoint(
    checkpoint: Path,
    out: Path,
    tokenizer: Path | None = None,
    config: Path | None = None,
    *,
    license: str | None = None,
    language: str | None = None,
    datasets: Sequence[str] = (),
    check: bool = False,
) -> Path:
    """Write the model of a trainer's checkpoint as a transformers folder.

    Args:
        checkpoint: a run's folder, its checkpoints folder, a checkpoint file, or a sharded checkpoint's folder.
        out: folder to write.
        tokenizer: tokenizer.json or its folder; by default `<run>/tokenizer`.
        config: the model's config as JSON; by default `<run>/model_config.json`.
        license: the weights' licence for the model card, as the Hub writes it.
        language: language code for the model card.
        datasets: names of datasets on the Hub for the model card.
        check: load the folder in a fresh process and compare its outputs with the model's (6 to 8 seconds).

    Returns:
        `out`.

    Raises:
        ConfigError: license, language or a dataset is malformed.
        DataError: a file is missing or damaged, the files do not fit each other, or the check fails.
    """
    config = config or beside(checkpoint, MODEL_CONFIG)
    if config is None:
        raise DataError(f"no {MODEL_CONFIG} beside {checkpoint}; give the model's config with --config")
    tokenizer = tokenizer or beside(checkpoint, TOKENIZER)
    if tokenizer is None:
        raise DataError(f"no {TOKENIZER} folder beside {checkpoint}; give the tokenizer with --tokenizer")
    found = find_checkpoint(checkpoint)
    card = Card(str(out), facts_beside(found), license, language, tuple(datasets))
    return export_model(read_trainer_checkpoint(found, read_model_config(config)), tokenizer, out, card, check=check)


def facts_beside(checkpoint: Path) -> RunFacts | None:
    """What the run folder around a checkpoint tells; None for a checkpoint without one."""
    found = beside(checkpoint, CONFIG)
    return read_facts(found.parent, step_of(checkpoint.name)) if found else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns 0 if the folder was written, else 1 after an error message of one line."""
    parser = argparse.ArgumentParser(
        prog="python -m elc_composer.export", description="Write a checkpoint as a folder for transformers."
    )
    parser.add_argument("checkpoint", type=Path, help="run folder, checkpoint file, or folder of a sharded checkpoint")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--tokenizer", type=Path, help="tokenizer.json or its folder; default: the run's")
    parser.add_argument("--config", type=Path, help="the model's config as JSON; default: the run's")
    add_card_options(parser)
    chosen = parser.parse_args(arguments)
    try:
        refuse_addresses(vars(chosen))
        out = export_checkpoint(
            chosen.checkpoint,
            chosen.out,
            chosen.tokenizer,
            chosen.config,
            license=chosen.license,
            language=chosen.language,
            datasets=chosen.dataset,
            check=chosen.check,
        )
    except (ConfigError, DataError, OSError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1
    if chosen.check:
        print(f"{out}: loaded in a fresh process, same logits")
    print(f"{out}: load it with AutoModelForMaskedLM.from_pretrained({str(out)!r}, trust_remote_code=True)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
