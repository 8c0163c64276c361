"""Encoding by pieces gives the ids of the tokenizer itself, for published and other tokenizers."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from elc_composer.prepared.tokenizer_files import save_tokenizer
from streaming_prep.encode import Encoder
from streaming_prep.train_tokenizer import train_tokenizer
from tests.conftest import require
from tests.streaming_prep.odd_sentences import ODD, random_sentences


def expected(tokenizer: Tokenizer, sentences: list[str]) -> list[list[int]]:
    return [tokenizer.encode(sentence, add_special_tokens=False).ids for sentence in sentences]


def encoded(encoder: Encoder, sentences: list[str]) -> list[list[int]]:
    result = []
    for sentence in sentences:
        ids, lengths = encoder.encode([sentence])
        assert lengths.sum() == len(ids)
        result.append(ids.tolist())
    return result


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["the dog's house, don't you 12 see é?"] * 20, 120, 2)


def test_equals_the_tokenizer_on_odd_and_random_sentences(tokenizer: Tokenizer) -> None:
    sentences = ODD + random_sentences(2000)
    encoder = Encoder(tokenizer)
    assert encoder.by_piece
    assert encoded(encoder, sentences) == expected(tokenizer, sentences)


def test_saved_tokenizers_are_encoded_by_piece_too(tokenizer: Tokenizer, tmp_path: Path) -> None:
    saved = Tokenizer.from_file(str(save_tokenizer(tokenizer, tmp_path) / "tokenizer.json"))
    encoder = Encoder(saved)
    assert encoder.by_piece
    sentences = ODD + random_sentences(500)
    assert encoded(encoder, sentences) == expected(saved, sentences)


def test_any_other_tokenizer_encodes_whole_sentences() -> None:
    other = Tokenizer(models.WordLevel({"a b": 0, "[UNK]": 1}, unk_token="[UNK]"))
    other.pre_tokenizer = pre_tokenizers.Split(",", "removed")
    encoder = Encoder(other)
    assert not encoder.by_piece
    ids, lengths = encoder.encode(["a b,c", "", "a b"])
    assert (ids.tolist(), lengths.tolist()) == ([0, 1, 0], [2, 0, 1])


def test_a_full_cache_does_not_change_the_ids(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streaming_prep.encode._CACHED_PIECES", 3)
    sentences = random_sentences(300)
    assert encoded(Encoder(tokenizer), sentences) == expected(tokenizer, sentences)


@pytest.mark.golden
@pytest.mark.parametrize("name", ["tokenizer_small.json", "tokenizer_base.json"])
def test_equals_the_published_tokenizers(golden_dir: Path, name: str) -> None:
    published = Tokenizer.from_file(str(require(golden_dir / name)))
    lines = require(golden_dir / "segment" / "segmented.txt").read_text(encoding="utf-8").split("\n")
    encoder = Encoder(published)
    assert encoder.by_piece
    assert encoded(encoder, lines + ODD) == expected(published, lines + ODD)
