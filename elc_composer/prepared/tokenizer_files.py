"""The published tokenizer's recipe: WordPiece over byte-level words, saved as a folder that transformers loads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from elc_composer.errors import ConfigError, DataError
from streaming_prep.atomic import atomic_file
from streaming_prep.sentences import PARAGRAPH, TAB

SPECIAL_TOKENS = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", PARAGRAPH, TAB)
"""Their places are their ids, 0 to 6."""

_NEWLINE = Regex(r"\s*[\r\n]\s*")


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
