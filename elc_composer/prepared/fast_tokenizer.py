"""Reads a tokenizer as a transformers fast tokenizer, from a file, a folder or object storage."""

from __future__ import annotations

import tempfile
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from elc_composer.common.addresses import local_path, parse_optional_address
from elc_composer.common.errors import DataError
from elc_composer.common.storage import fetch
from elc_composer.prepared.tokenizer_files import load_tokenizer

_ROLES = {
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "mask_token": "[MASK]",
}


def load_fast_tokenizer(location: str) -> PreTrainedTokenizerFast:
    """Load a transformers tokenizer; `load_tokenizer` reads the `tokenizers.Tokenizer` inside.

    Args:
        location: a `tokenizer.json`, a folder with one, or the address of such a folder (`s3://...`).

    Raises:
        DataError: no tokenizer there, or special tokens other than those of the BabyLM tokenizers.
    """
    location = local_path(location)
    if parse_optional_address(location, "tokenizer") is not None:
        with tempfile.TemporaryDirectory() as folder:
            tokenizer = load_tokenizer(_fetch(location, Path(folder)))
    else:
        tokenizer = load_tokenizer(location)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **_ROLES)


def _fetch(location: str, folder: Path) -> Path:
    target = folder / "tokenizer.json"
    address = location if location.endswith(".json") else f"{location.rstrip('/')}/tokenizer.json"
    try:
        target.write_bytes(fetch(address))
    except DataError as error:
        raise DataError(
            f"{location}: no tokenizer can be read there ({error}); check address and credentials"
        ) from error
    return target
