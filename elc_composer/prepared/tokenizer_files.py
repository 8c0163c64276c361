"""Tokenizer files of a prepared folder: reads and checks a tokenizer.json, writes a folder that transformers loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, processors

from elc_composer.common.errors import DataError, one_line
from elc_composer.common.files import write_text

PARAGRAPH = "[PAR]"
"""Follows the last sentence of a paragraph, without a space."""
TAB = "[TAB]"
"""Begins an indented line; a space follows."""
SPECIAL_TOKENS = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", PARAGRAPH, TAB)
"""In the order of their ids, 0 to 6."""
MASK = "[MASK]"
ROLES = {
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "mask_token": MASK,
    "bos_token": "[CLS]",
    "eos_token": "[SEP]",
}
"""Roles in transformers. Without bos and eos, public evaluation pipelines add tokens beyond the vocabulary."""

NEWLINE_RULE: dict[str, Any] = {"type": "Replace", "pattern": {"Regex": r"\s*[\r\n]\s*"}, "content": " "}
"""Normalizer: a line break, as between the turns of a dialogue, becomes a space."""
PREFIX_RULES: tuple[dict[str, Any], ...] = (
    {"type": "Prepend", "prepend": " "},
    {"type": "Replace", "pattern": {"Regex": r"\A (?= |\[MASK\])"}, "content": ""},
)
"""Normalizers: a text begins with a space unless it already does, or begins with [MASK]."""


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Read a tokenizer.json, or a folder with one; encode with `add_special_tokens=False` to get plain segments.

    Truncation and padding settings of the file are removed: they would cut sentences.

    Raises:
        DataError: no such file, not a tokenizer, or special tokens that are missing or do not have ids 0 to 6.
    """
    file = tokenizer_file(Path(path))
    if not file.is_file():
        raise DataError(f"{file} does not exist: give a tokenizer.json or a folder with one")
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the tokenizers package raises plain Exception for any fault of the file
        raise DataError(f"{file} is not a tokenizer ({one_line(error)})") from None
    for index, token in enumerate(SPECIAL_TOKENS):
        found = tokenizer.token_to_id(token)
        if found != index:
            state = "is missing" if found is None else f"has id {found}"
            raise DataError(f"{file}: {token} {state}, expected id {index}; train the tokenizer with streaming_prep")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def vocabulary_size(tokenizer: Tokenizer) -> int:
    """Largest id + 1. Larger than `get_vocab_size()` if the vocabulary has gaps."""
    return max(tokenizer.get_vocab().values()) + 1


def tokenizer_file(path: Path) -> Path:
    """The tokenizer.json at `path`, which may be the folder that holds it."""
    return path / "tokenizer.json" if path.is_dir() else path


def masks_as_training(tokenizer: Tokenizer) -> Tokenizer:
    """A copy that encodes text with [MASK] to the ids that training masks; other text keeps its ids.

    Training masks ids after encoding: `Ġthe Ġcat .` becomes `Ġthe [MASK] .`. The published tokenizers encode the text
    `the [MASK].` differently in two places. The space before [MASK] becomes a token of its own; `lstrip` prevents this.
    And what follows [MASK] becomes ` .`, because `add_prefix_space` applies to each part between special tokens. So the
    space is added by a normalizer instead, which runs before [MASK] is split off (`normalized`).
    """
    copy = Tokenizer.from_str(tokenizer.to_str())
    if all(token.content != MASK for token in copy.get_added_tokens_decoder().values()):
        copy.add_special_tokens([MASK])  # the file has it in the vocabulary only
    state = json.loads(copy.to_str())
    mask = next(token for token in state["added_tokens"] if token["content"] == MASK)
    mask["lstrip"] = True
    splitter = state.get("pre_tokenizer") or {}
    first = (splitter.get("pretokenizers") or [splitter])[0]
    own = tokenizer.normalizer
    keeps_mask = own is None or own.normalize_str(MASK) == MASK
    if first.get("type") == "ByteLevel" and first.get("add_prefix_space") and keeps_mask:
        first["add_prefix_space"] = False
        mask["normalized"] = True
        state["normalizer"] = _sequence(state["normalizer"], *PREFIX_RULES)
    return Tokenizer.from_str(json.dumps(state))


def save_tokenizer(tokenizer: Tokenizer, folder: str | Path, model_max_length: int = 512) -> Path:
    """Write a folder that `AutoTokenizer.from_pretrained(folder)` loads; returns the folder.

    The saved tokenizer differs from the given one in three ways: it puts [CLS] and [SEP] around a sequence if special
    tokens are requested, a line break becomes a space, and [MASK] in a text gives the ids that training masks
    (`masks_as_training`). Other text has the same ids.

    Args:
        tokenizer: any tokenizer that `load_tokenizer` accepts.
        folder: files of the same names are replaced.
        model_max_length: longest sequence in tokens, [CLS] and [SEP] included.
    """
    folder = Path(folder)
    ready = masks_as_training(_without_newlines(tokenizer))
    ready.no_padding()
    ready.no_truncation()
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
    names = {**ROLES, "additional_special_tokens": [PARAGRAPH, TAB]}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": model_max_length,
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        **names,
    }
    write_text(folder / "tokenizer.json", ready.to_str(pretty=True))
    write_text(folder / "tokenizer_config.json", json.dumps(config, indent=2) + "\n")
    write_text(folder / "special_tokens_map.json", json.dumps(names, indent=2) + "\n")
    return folder


def _without_newlines(tokenizer: Tokenizer) -> Tokenizer:
    state = json.loads(tokenizer.to_str())
    if tokenizer.normalizer is None or "\n" in tokenizer.normalizer.normalize_str("a\nb"):
        state["normalizer"] = _sequence(state["normalizer"], NEWLINE_RULE)
    return Tokenizer.from_str(json.dumps(state))


def _sequence(normalizer: dict[str, Any] | None, *rules: dict[str, Any]) -> dict[str, Any]:
    """A normalizer that applies `normalizer`, if any, and then the rules."""
    steps = [] if normalizer is None else normalizer.get("normalizers", [normalizer])
    steps = [*steps, *rules]
    return steps[0] if len(steps) == 1 else {"type": "Sequence", "normalizers": steps}
