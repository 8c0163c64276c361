"""The tokenizer of a run: a published `tokenizer.json`, or a folder that streaming_prep or transformers wrote."""

from __future__ import annotations

import tempfile
from pathlib import Path

from composer.utils import get_file, maybe_create_object_store_from_uri, parse_uri
from transformers import PreTrainedTokenizerFast

from elc_composer.errors import DataError
from streaming_prep.tokenizer import load_tokenizer as read_tokenizer

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
        DataError: where there is none, or its special tokens are not those of the BabyLM tokenizers.
    """
    location = location.removeprefix("file://")
    if "://" in location:
        with tempfile.TemporaryDirectory() as folder:
            tokenizer = read_tokenizer(_fetch(location, Path(folder)))
    else:
        tokenizer = read_tokenizer(location)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **SPECIAL_TOKENS)


def _fetch(location: str, folder: Path) -> Path:
    target = folder / "tokenizer.json"
    try:
        store = maybe_create_object_store_from_uri(location)
        _, _, key = parse_uri(location)
        name = key if key.endswith(".json") else f"{key.rstrip('/')}/tokenizer.json"
        get_file(name, str(target), store, progress_bar=False)
    except Exception as error:  # each store raises its own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{location}: no tokenizer can be read there ({reason}); check address and credentials"
        ) from error
    return target
