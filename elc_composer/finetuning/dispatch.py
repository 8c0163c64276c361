"""Tells the config of a fine-tuning run from that of a training run, without importing either."""

from __future__ import annotations

from pathlib import Path

from elc_composer.common.yaml_text import parse_yaml, read_yaml_text


def is_finetuning(path: str | Path) -> bool:
    """Whether a config file has the section `finetune`; False for a file that does not exist."""
    file = Path(path)
    if not file.is_file():
        return False
    tree = parse_yaml(read_yaml_text(file), file).tree
    return isinstance(tree, dict) and "finetune" in tree
