"""Train the published tokenizer's recipe: WordPiece over byte-level words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from elc_composer.common.errors import ConfigError
from elc_composer.prepared.tokenizer_files import PARAGRAPH, SPECIAL_TOKENS, TAB


def train_tokenizer(sentences: Iterable[str], vocab_size: int, min_frequency: int = 10) -> Tokenizer:
    """WordPiece with `vocab_size` entries at most; pieces seen fewer than `min_frequency` times are not made.

    Words keep their leading space, digits stand alone, no piece carries a continuing prefix. Bytes that the sentences
    do not have are unknown. The same sentences give the same tokenizer, byte for byte, whatever the number of threads.
    Raises `ConfigError` for a `vocab_size` that the bytes of the text overflow.
    """
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", continuing_subword_prefix=""))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.ByteLevel(add_prefix_space=True), pre_tokenizers.Digits(individual_digits=True)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    tokenizer.train_from_iterator(plain_text(sentences), wordpiece_trainer(vocab_size, min_frequency))
    needed = tokenizer.get_vocab_size()
    if needed > vocab_size:
        raise ConfigError(f"vocab_size is {vocab_size} but the special tokens and the text's bytes alone need {needed}")
    return tokenizer


def wordpiece_trainer(vocab_size: int, min_frequency: int) -> trainers.WordPieceTrainer:
    """The published tokenizers' training: special tokens first, no prefix on continuing pieces."""
    return trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=list(SPECIAL_TOKENS),
        continuing_subword_prefix="",
        show_progress=False,
    )


def plain_text(sentences: Iterable[str]) -> Iterator[str]:
    """Sentences without [PAR] and [TAB], whose pieces the trainer would learn: it does not know them in the text."""
    for sentence in sentences:
        if sentence:
            yield sentence.removeprefix(TAB).removesuffix(PARAGRAPH).lstrip()
