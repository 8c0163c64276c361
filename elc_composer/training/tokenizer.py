"""The tokenizer of a run: its location, its special token ids, and the check against the data streams."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedTokenizerFast

from elc_composer.common.errors import ConfigError, DataError
from elc_composer.data.config import DataConfig
from elc_composer.data.masking import TokenIds
from elc_composer.prepared.fast_tokenizer import load_fast_tokenizer
from elc_composer.prepared.tokenizer_files import SPECIAL_TOKENS


def prepared_tokenizer(config: DataConfig) -> str:
    """Where streaming_prep put the tokenizer that the first stream was made with.

    Raises:
        ConfigError: where there is no stream.
    """
    if not config.streams or not (root := config.streams[0].remote or config.streams[0].local):
        raise ConfigError("data.streams names no folder; set data.streams.0.local to what streaming_prep wrote")
    root = root.removeprefix("file://")
    if "://" not in root and not Path(root).is_dir():
        raise DataError(
            f"the data folder {root} does not exist; write it with `python -m streaming_prep build --out {root}`, "
            "or set data.streams.0.local to another"
        )
    return f"{root.rstrip('/')}/tokenizer"


def token_ids(tokenizer: PreTrainedTokenizerFast) -> TokenIds:
    """Ids of the special tokens, which are the first of every BabyLM vocabulary."""
    return TokenIds(
        vocab_size=len(tokenizer),
        cls_id=tokenizer.cls_token_id,
        sep_id=tokenizer.sep_token_id,
        pad_id=tokenizer.pad_token_id,
        mask_id=tokenizer.mask_token_id,
        num_special=len(SPECIAL_TOKENS),
    )


def check_data_tokenizer(tokenizer: PreTrainedTokenizerFast, config: DataConfig) -> None:
    """Hold a tokenizer against those that the streams were prepared with; a stream that brings none is left alone.

    Raises:
        DataError: for a stream whose ids mean other tokens, though they may be as many.
    """
    vocabulary = tokenizer.get_vocab()
    for stream in config.streams:
        root = (stream.remote or stream.local or "").rstrip("/")
        try:
            own = load_fast_tokenizer(f"{root}/tokenizer").get_vocab()
        except DataError:
            continue
        if own != vocabulary:
            other = sum(vocabulary.get(token) != number for token, number in own.items())
            raise DataError(
                f"{root} was prepared with another tokenizer than the run's: {other:,} of {len(own):,} tokens have "
                "another id; name the one that the data were prepared with, and prepare all streams with the same"
            )
