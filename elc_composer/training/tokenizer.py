"""The tokenizer of a run: its location, checks against the model and the data streams, special token ids."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedTokenizerFast

from elc_composer.common.errors import ConfigError, DataError
from elc_composer.data.config import DataConfig, StreamConfig
from elc_composer.data.masking import TokenIds
from elc_composer.model import ElcConfig
from elc_composer.prepared.fast_tokenizer import load_fast_tokenizer
from elc_composer.prepared.layout import TOKENIZER
from elc_composer.prepared.tokenizer_files import PARAGRAPH, SPECIAL_TOKENS, TAB
from elc_composer.training.config import RunConfig


def tokenizer_location(config: RunConfig) -> str:
    """File, folder or address of the run's tokenizer: the `tokenizer` key, else that of the first data stream.

    Raises:
        ConfigError: neither a tokenizer nor a stream is set.
        DataError: the first stream's folder does not exist.
    """
    return config.tokenizer or _stream_tokenizer(config.data)


def _stream_tokenizer(config: DataConfig) -> str:
    if not config.streams or not (root := _root(config.streams[0])):
        raise ConfigError("data.streams names no folder; set data.streams.0.local to the folder of a build")
    if "://" not in root and not Path(root).is_dir():
        raise DataError(
            f"the data folder {root} does not exist; write it with `python -m streaming_prep build --out {root}`, "
            "or set data.streams.0.local to another folder"
        )
    return f"{root}/{TOKENIZER}"


def check_model_tokenizer(model: ElcConfig, tokenizer: PreTrainedTokenizerFast) -> None:
    """Refuse a model whose vocabulary size or special token ids differ from the tokenizer's.

    Raises:
        ConfigError: naming the key and the tokenizer's value.
    """
    if len(tokenizer) != model.vocab_size:
        raise ConfigError(
            f"model.vocab_size is {model.vocab_size:,} but the tokenizer has {len(tokenizer):,} entries; "
            f"set model.vocab_size={len(tokenizer)}, or set tokenizer to the one that the data were prepared with"
        )
    for name in ("pad", "cls", "sep", "mask"):
        key = f"{name}_token_id"
        own, expected = getattr(model, key), getattr(tokenizer, key)
        if own != expected:
            raise ConfigError(f"model.{key} is {own} but the tokenizer's is {expected}; set model.{key}={expected}")


def check_stream_tokenizers(tokenizer: PreTrainedTokenizerFast, location: str, config: DataConfig) -> None:
    """Compare the run's tokenizer with those that the streams were prepared with.

    Args:
        tokenizer: the run's tokenizer.
        location: where it was read from; a stream with this location is not read again.
        config: the streams; one without a tokenizer is not compared.

    Raises:
        DataError: a stream's token ids stand for other tokens, even if there are as many.
    """
    vocabulary = tokenizer.get_vocab()
    for stream in config.streams:
        root = _root(stream)
        if f"{root}/{TOKENIZER}" == location:
            continue
        try:
            own = load_fast_tokenizer(f"{root}/{TOKENIZER}").get_vocab()
        except DataError:
            continue
        if own != vocabulary:
            other = sum(vocabulary.get(token) != number for token, number in own.items())
            raise DataError(
                f"{root} was prepared with another tokenizer than the run's: {other:,} of {len(own):,} tokens have "
                "another id; set tokenizer to the one that the data were prepared with, and prepare all streams with it"
            )


def token_ids(tokenizer: PreTrainedTokenizerFast) -> TokenIds:
    """Special token ids; maskable tokens begin at [TAB], random replacements at [PAR]."""
    return TokenIds(
        vocab_size=len(tokenizer),
        cls_id=tokenizer.cls_token_id,
        sep_id=tokenizer.sep_token_id,
        pad_id=tokenizer.pad_token_id,
        mask_id=tokenizer.mask_token_id,
        first_random=SPECIAL_TOKENS.index(PARAGRAPH),
        first_maskable=SPECIAL_TOKENS.index(TAB),
    )


def _root(stream: StreamConfig) -> str:
    return (stream.remote or stream.local or "").removeprefix("file://").rstrip("/")
