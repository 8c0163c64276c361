"""Tokenizer files of a prepared folder: read and check a tokenizer.json, write a folder that transformers loads."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Regex, Tokenizer, normalizers, processors

from elc_composer.common.errors import DataError
from elc_composer.common.files import atomic_file

PARAGRAPH = "[PAR]"
"""Follows a paragraph's last sentence without a space."""
TAB = "[TAB]"
"""Begins an indented line, followed by a space."""
SPECIAL_TOKENS = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", PARAGRAPH, TAB)
"""Their places are their ids, 0 to 6."""

_NEWLINE = Regex(r"\s*[\r\n]\s*")


def load_tokenizer(path: str | Path) -> Tokenizer:
    """A tokenizer.json, or a folder with one; encode with `add_special_tokens=False` to get bare segments.

    It is taken as it is, but for truncation and padding that a file may ask for: they would cut sentences short.
    Raises `DataError`: no such file, no tokenizer, or special tokens that are missing or not at ids 0 to 6.
    """
    file = tokenizer_file(Path(path))
    if not file.is_file():
        raise DataError(f"{file} does not exist: give a tokenizer.json or a folder with one")
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises bare Exception for whatever is wrong with a file
        raise DataError(f"{file} is no tokenizer ({error})") from None
    for index, token in enumerate(SPECIAL_TOKENS):
        found = tokenizer.token_to_id(token)
        if found != index:
            state = "is missing" if found is None else f"has id {found}"
            raise DataError(f"{file}: {token} {state}, expected id {index}; train the tokenizer with streaming_prep")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def vocabulary_size(tokenizer: Tokenizer) -> int:
    """One more than the largest id; where ids are left out, more than the entries that `get_vocab_size` counts."""
    return max(tokenizer.get_vocab().values()) + 1


def tokenizer_file(path: Path) -> Path:
    """The tokenizer.json at `path`, which may be the folder that holds it."""
    return path / "tokenizer.json" if path.is_dir() else path


def save_tokenizer(tokenizer: Tokenizer, folder: str | Path) -> Path:
    """Write a transformers fast tokenizer folder, `AutoTokenizer.from_pretrained(folder)` loads it; returns the folder.

    Two things are added, neither of which changes how text without line breaks is cut: [CLS] ... [SEP] around each
    sequence where special tokens are asked for, and a line break (as in the turns of a dialogue) reads as a space.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    ready = Tokenizer.from_str(tokenizer.to_str())
    ready.no_padding()
    ready.no_truncation()
    newline = normalizers.Replace(_NEWLINE, " ")
    if tokenizer.normalizer is None:
        ready.normalizer = newline
    elif "\n" in tokenizer.normalizer.normalize_str("a\nb"):
        ready.normalizer = normalizers.Sequence([tokenizer.normalizer, newline])
    ready.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=True),
            processors.TemplateProcessing(
                single="[CLS] $A [SEP]",
                pair="[CLS] $A [SEP] $B:1 [SEP]:1",
                special_tokens=[(token, SPECIAL_TOKENS.index(token)) for token in ("[CLS]", "[SEP]")],
            ),
        ]
    )
    names = {f"{token[1:-1].lower()}_token": token for token in SPECIAL_TOKENS[:5]}
    extra = {"additional_special_tokens": list(SPECIAL_TOKENS[5:])}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 512,
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        **names,
        **extra,
    }
    files = {
        "tokenizer.json": ready.to_str(pretty=True),
        "tokenizer_config.json": json.dumps(config, indent=2) + "\n",
        "special_tokens_map.json": json.dumps(names | extra, indent=2) + "\n",
    }
    for name, text in files.items():
        with atomic_file(folder / name) as file:
            file.write(text.encode())
    return folder
