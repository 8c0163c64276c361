"""Names inside a prepared data folder: `seq_<length>/<split>` datasets, tokenizer folder, manifest."""

from __future__ import annotations

import re
from collections.abc import Iterable

MANIFEST = "manifest.json"
TOKENIZER = "tokenizer"
_LENGTH_FOLDER = re.compile(r"seq_([1-9]\d{0,8})")


def length_folder(seq_length: int) -> str:
    """The folder of all splits at one sequence length in tokens, `seq_128`."""
    return f"seq_{seq_length}"


def dataset_name(seq_length: int, split: str) -> str:
    """The MDS folder of one split at one sequence length, `seq_128/train`."""
    return f"{length_folder(seq_length)}/{split}"


def parse_length_folder(name: str) -> int | None:
    """The sequence length of `seq_128`; None for any other name."""
    match = _LENGTH_FOLDER.fullmatch(name)
    return int(match[1]) if match else None


def parse_dataset_name(name: str) -> tuple[int, str] | None:
    """Sequence length and split of `seq_128/train`; None for any other name."""
    folder, slash, split = name.partition("/")
    seq_length = parse_length_folder(folder)
    return (seq_length, split) if seq_length is not None and slash and split and "/" not in split else None


def sequence_lengths(names: Iterable[str]) -> list[int]:
    """The distinct sequence lengths of dataset names, ascending; other names are ignored."""
    return sorted({parsed[0] for name in names if (parsed := parse_dataset_name(name)) is not None})
