"""The tokenizer of a run: a published `tokenizer.json`, or a folder that streaming_prep or transformers wrote."""

from __future__ import annotations

import tempfile
from pathlib import Path

from composer.utils import get_file, maybe_create_object_store_from_uri, parse_uri
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from elc_composer.errors import DataError

SPECIAL_TOKENS = {
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "mask_token": "[MASK]",
}


def load_tokenizer(location: str) -> PreTrainedTokenizerFast:
    """Load a tokenizer from a file, a folder, or a remote folder (`s3://...`).

    Raises:
        DataError: where there is none, or it lacks one of the special tokens that masked-LM training needs.
    """
    if "://" in location:
        with tempfile.TemporaryDirectory() as folder:
            return _load(_fetch(location, Path(folder)), location)
    return _load(Path(location), location)


def _load(path: Path, location: str) -> PreTrainedTokenizerFast:
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise DataError(f"{location}: no tokenizer there; name a tokenizer.json, or a folder that holds one")
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises plain Exception for any file that it cannot read
        raise DataError(f"{location}: not a tokenizer file: {' '.join(str(error).split())}") from error
    missing = [token for token in SPECIAL_TOKENS.values() if tokenizer.token_to_id(token) is None]
    if missing:
        raise DataError(f"{location}: the tokenizer has no {', '.join(missing)}; masked-LM training needs them")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **SPECIAL_TOKENS)


def _fetch(location: str, folder: Path) -> Path:
    store = maybe_create_object_store_from_uri(location)
    _, _, key = parse_uri(location)
    name = key if key.endswith(".json") else f"{key.rstrip('/')}/tokenizer.json"
    target = folder / "tokenizer.json"
    try:
        get_file(name, str(target), store, progress_bar=False)
    except FileNotFoundError as error:
        raise DataError(f"{location}: no tokenizer there; name a tokenizer.json, or a folder that holds one") from error
    return target
