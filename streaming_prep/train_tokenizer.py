"""Train a tokenizer as the published ones: WordPiece over byte-level words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from elc_composer.common.errors import ConfigError
from elc_composer.prepared.tokenizer_files import PARAGRAPH, SPECIAL_TOKENS, TAB

MARKERS = ("removed", "published")
"""Treatment of [PAR] and [TAB] in tokenizer training; see `training_text`."""


def train_tokenizer(
    sentences: Iterable[str], vocab_size: int, min_frequency: int = 10, markers: str = "removed"
) -> Tokenizer:
    """Train WordPiece with at most `vocab_size` entries, merging pairs that occur at least `min_frequency` times.

    Words keep their leading space, digits are words of their own, and continuing pieces have no prefix. Bytes that do
    not occur in the sentences are unknown. The same sentences give the same tokenizer, byte for byte, whatever the
    number of threads.

    Args:
        markers: see `training_text`.

    Raises:
        ConfigError: `vocab_size` is smaller than the number of distinct bytes of the text and special tokens.
    """
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", continuing_subword_prefix=""))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.ByteLevel(add_prefix_space=True), pre_tokenizers.Digits(individual_digits=True)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    tokenizer.train_from_iterator(training_text(sentences, markers), wordpiece_trainer(vocab_size, min_frequency))
    needed = tokenizer.get_vocab_size()
    if needed > vocab_size:
        raise ConfigError(
            f"--vocab-size is {vocab_size}, but the special tokens and the bytes of the text need {needed}; give more"
        )
    return tokenizer


def wordpiece_trainer(vocab_size: int, min_frequency: int) -> trainers.WordPieceTrainer:
    """The trainer of the published tokenizers: special tokens first, no prefix on continuing pieces."""
    return trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=list(SPECIAL_TOKENS),
        continuing_subword_prefix="",
        show_progress=False,
    )


def training_text(sentences: Iterable[str], markers: str) -> Iterator[str]:
    """Sentences as the trainer gets them; it takes [PAR] and [TAB] for ordinary text.

    `removed`: without both, so that no piece is learned from them. `published`, as the published tokenizers were
    trained: [PAR] stays, so that pieces such as `.[` are learned, and `[TAB] ` is removed.
    """
    for sentence in sentences:
        if sentence:
            if markers == "published":
                yield sentence.replace(f"{TAB} ", "")
            else:
                yield sentence.removeprefix(TAB).removesuffix(PARAGRAPH).lstrip()
