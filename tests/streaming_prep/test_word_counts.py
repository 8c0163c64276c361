"""Training from counted words gives the tokenizer that training on the sentences gives, byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from elc_composer.common.errors import ConfigError
from streaming_prep.train_tokenizer import MARKERS, train_tokenizer
from streaming_prep.word_counts import PieceCounts, train_from_counts
from tests.conftest import require
from tests.streaming_prep.odd_sentences import ODD, random_sentences


def counted(sentences: list[str], folder: Path, parts: int = 3, markers: str = "removed") -> PieceCounts:
    """Counts that have been to the disk and back, as a build's are."""
    total = PieceCounts()
    for part in range(parts):
        counts = PieceCounts()
        counts.add(sentences[part::parts], markers)
        path = folder / f"{part}.json"
        path.write_bytes(counts.to_json())
        total.add_json(path)
    return total


@pytest.mark.parametrize("markers", MARKERS)
@pytest.mark.parametrize("vocab_size", [80, 200])
def test_equals_training_on_the_sentences(tmp_path: Path, vocab_size: int, markers: str) -> None:
    sentences = (ODD + random_sentences(3000)) * 2
    expected = train_tokenizer(sentences, vocab_size, 2, markers).to_str()
    assert train_from_counts(counted(sentences, tmp_path, markers=markers), vocab_size, 2).to_str() == expected


def test_a_vocabulary_smaller_than_the_alphabet_is_refused_as_there(tmp_path: Path) -> None:
    sentences = ["the quick brown fox", "jumps over 12 lazy dogs"]
    with pytest.raises(ConfigError, match="--vocab-size is 10"):
        train_from_counts(counted(sentences, tmp_path), 10, 2)


@pytest.mark.golden
def test_equals_training_on_the_golden_sentences(golden_dir: Path, tmp_path: Path) -> None:
    lines = require(golden_dir / "segment" / "segmented.txt").read_text(encoding="utf-8").split("\n")
    expected = train_tokenizer(lines, 1500, 3).to_str()
    assert train_from_counts(counted(lines, tmp_path), 1500, 3).to_str() == expected
