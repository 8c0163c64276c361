"""The tokenizer of a run: a published `tokenizer.json`, or a folder that streaming_prep or transformers wrote."""

from __future__ import annotations

import tempfile
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from elc_composer.common.errors import DataError
from elc_composer.common.storage import fetch
from elc_composer.data.config import DataConfig
from elc_composer.prepared.tokenizer_files import ROLES, masks_as_training
from elc_composer.prepared.tokenizer_files import load_tokenizer as read_tokenizer


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
    ready = masks_as_training(tokenizer)
    return PreTrainedTokenizerFast(tokenizer_object=ready, clean_up_tokenization_spaces=False, **ROLES)


def check_data_tokenizer(tokenizer: PreTrainedTokenizerFast, config: DataConfig) -> None:
    """Hold a tokenizer against those that the streams were prepared with; a stream that brings none is left alone.

    Raises:
        DataError: for a stream whose ids mean other tokens, though they may be as many.
    """
    vocabulary = tokenizer.get_vocab()
    for stream in config.streams:
        root = (stream.remote or stream.local or "").rstrip("/")
        try:
            own = load_tokenizer(f"{root}/tokenizer").get_vocab()
        except DataError:
            continue
        if own != vocabulary:
            other = sum(vocabulary.get(token) != number for token, number in own.items())
            raise DataError(
                f"{root} was prepared with another tokenizer than the run's: {other:,} of {len(own):,} tokens have "
                "another id; name the one that the data were prepared with, and prepare all streams with the same"
            )


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
