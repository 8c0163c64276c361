"""Tokenizer training as published, equal bytes on every run, folders that transformers loads, and the report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer

from elc_composer.common.errors import ConfigError, DataError
from elc_composer.prepared.tokenizer_files import SPECIAL_TOKENS, load_tokenizer, save_tokenizer, vocabulary_size
from streaming_prep.mds_shards import column_encoding
from streaming_prep.tokenizer_report import report_tokenizer, summarize
from streaming_prep.train_tokenizer import train_tokenizer, training_text
from tests.conftest import require
from tests.streaming_prep.training_sentences import SENTENCES


@pytest.fixture(scope="module")
def trained() -> Tokenizer:
    return train_tokenizer(SENTENCES, vocab_size=120)


def pipeline(tokenizer: Tokenizer) -> dict[str, Any]:
    state = json.loads(tokenizer.to_str())
    del state["model"]["vocab"]
    return state


@pytest.mark.golden
@pytest.mark.parametrize("name", ["tokenizer_small.json", "tokenizer_base.json"])
def test_a_trained_tokenizer_differs_from_the_published_one_in_its_entries_alone(
    golden_dir: Path, trained: Tokenizer, name: str
) -> None:
    assert pipeline(trained) == pipeline(load_tokenizer(require(golden_dir / name)))


@pytest.mark.golden
@pytest.mark.parametrize("name", ["tokenizer_small.json", "tokenizer_base.json"])
def test_saving_a_published_tokenizer_leaves_text_without_line_breaks_as_it_was(
    golden_dir: Path, tmp_path: Path, name: str
) -> None:
    published = load_tokenizer(require(golden_dir / name))
    saved = load_tokenizer(save_tokenizer(published, tmp_path))
    text = require(golden_dir / "segment" / "segmented.txt").read_bytes().decode()
    lines = [*text.split("\n"), "  two  spaces ", "tab\there", "naïve ☃", " ", "[PAR] x", "[PAR]x", "x[SEP]y", ""]
    before = published.encode_batch(lines, add_special_tokens=False)
    after = saved.encode_batch(lines, add_special_tokens=False)
    assert [encoding.ids for encoding in after] == [encoding.ids for encoding in before]
    turns = saved.encode("A: Who?\nB: I.", add_special_tokens=False).ids
    assert turns == published.encode("A: Who? B: I.", add_special_tokens=False).ids
    assert 0 not in turns


def test_special_tokens_have_the_published_ids_and_digits_stand_alone(trained: Tokenizer) -> None:
    assert [trained.token_to_id(token) for token in SPECIAL_TOKENS] == list(range(7))
    ids = trained.encode("[TAB] The 1990.[PAR]", add_special_tokens=False).ids
    assert (ids[0], ids[-1]) == (6, 5)
    assert trained.encode("The cat saw 1990.").tokens == ["ĠThe", "Ġcat", "Ġsaw", "Ġ", "1", "9", "9", "0", "."]
    assert not [token for token in trained.get_vocab() if token.startswith("##")]


def test_markers_are_not_learned_as_text(trained: Tokenizer) -> None:
    assert not [
        token for token in trained.get_vocab() if ("[" in token or "PAR" in token) and token not in SPECIAL_TOKENS
    ]


def test_pieces_below_the_minimum_frequency_are_not_made() -> None:
    few = train_tokenizer(["zebra yak"] * 9 + ["yak"] * 11, vocab_size=100, min_frequency=10)
    assert "Ġyak" in few.get_vocab()
    assert "Ġzebra" not in few.get_vocab()


def test_training_twice_gives_the_same_bytes_whatever_the_threads() -> None:
    script = (
        "from tests.streaming_prep.training_sentences import SENTENCES\n"
        "from streaming_prep.train_tokenizer import train_tokenizer\n"
        "import hashlib\n"
        "print(hashlib.sha256(train_tokenizer(SENTENCES, 120).to_str().encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"RAYON_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "true"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in ("1", "2", "2")
    }
    assert len(digests) == 1


def test_a_vocabulary_that_the_bytes_overflow_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--vocab-size is 10, .* need \d+"):
        train_tokenizer(SENTENCES, vocab_size=10)


def test_the_saved_folder_is_a_transformers_tokenizer(tmp_path: Path, trained: Tokenizer) -> None:
    loaded = AutoTokenizer.from_pretrained(save_tokenizer(trained, tmp_path / "tokenizer"), local_files_only=True)
    assert loaded.is_fast
    body = trained.encode("The cat saw 1999 birds. The dog", add_special_tokens=False).ids
    encoded = loaded("The cat saw 1999 birds.\nThe dog")
    assert encoded["input_ids"] == [1, *body, 2]
    assert set(encoded) == {"input_ids", "attention_mask"}
    assert (loaded.unk_token_id, loaded.cls_token_id, loaded.sep_token_id) == (0, 1, 2)
    assert (loaded.pad_token_id, loaded.mask_token_id) == (3, 4)
    assert (loaded.bos_token_id, loaded.eos_token_id) == (1, 2)
    assert len(loaded) == trained.get_vocab_size()
    assert loaded("a", "b")["input_ids"].count(2) == 2
    assert loaded.decode(loaded("The cat[PAR]")["input_ids"], skip_special_tokens=True).strip() == "The cat"


def test_saving_is_repeatable(tmp_path: Path, trained: Tokenizer) -> None:
    first = save_tokenizer(trained, tmp_path / "a")
    second = save_tokenizer(load_tokenizer(first), tmp_path / "b")
    for file in first.iterdir():
        assert file.read_bytes() == (second / file.name).read_bytes()


def test_files_that_are_no_such_tokenizer_are_named(tmp_path: Path, trained: Tokenizer) -> None:
    with pytest.raises(DataError, match=r"none/?.* does not exist"):
        load_tokenizer(tmp_path / "none")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(DataError, match=r"bad\.json is not a tokenizer"):
        load_tokenizer(tmp_path / "bad.json")
    Tokenizer(models.WordPiece({"[UNK]": 0, "[CLS]": 1, "a": 2}, unk_token="[UNK]")).save(str(tmp_path / "other.json"))
    with pytest.raises(DataError, match=r"other\.json: \[SEP\] is missing, expected id 2"):
        load_tokenizer(tmp_path / "other.json")


def test_the_report_counts_what_the_text_has(trained: Tokenizer) -> None:
    report = report_tokenizer(trained, [*SENTENCES, "[TAB] The cat ☃ saw.[PAR]"], samples=1)
    assert report.words == 5 * 80 + 3 * 20 + 4
    assert report.unknown_tokens == 1
    assert report.coverage == 1 - 1 / report.tokens
    assert report.tokens_per_word == report.tokens / report.words
    assert report.samples == [(SENTENCES[0], trained.encode(SENTENCES[0]).tokens)]
    assert "F95" in report.render()


def test_the_frequencies_of_all_pieces_are_listed_commonest_first(trained: Tokenizer) -> None:
    report = report_tokenizer(trained, SENTENCES)
    counted = Counter(piece for sentence in SENTENCES for piece in trained.encode(sentence).tokens)
    assert {one.piece: one.count for one in report.frequencies} == dict.fromkeys(trained.get_vocab(), 0) | counted
    assert all(trained.token_to_id(one.piece) == one.id for one in report.frequencies)
    assert [(-one.count, one.id) for one in report.frequencies] == sorted(
        (-one.count, one.id) for one in report.frequencies
    )
    header, *rows = report.frequency_table().splitlines()
    assert header == "piece\tid\tcount"
    assert [row.split("\t") for row in rows] == [[one.piece, str(one.id), str(one.count)] for one in report.frequencies]


def test_the_report_prints_the_100_most_frequent_pieces(trained: Tokenizer) -> None:
    vocabulary = {token: index for index, token in enumerate(SPECIAL_TOKENS)}
    vocabulary |= {f"Ġpiece{index}": index for index in range(7, 150)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    report = summarize(tokenizer, np.random.default_rng(0).permutation(150) * 11, words=10)
    _, _, listed = report.render().partition("the 100 most frequent pieces with their counts:\n")
    pieces = [piece.strip().rsplit(" ", 1) for line in listed.splitlines() for piece in line.split(" | ")]
    assert pieces == [[one.piece, f"{one.count:,}"] for one in report.frequencies[:100]]


def test_line_breaks_and_tabs_in_foreign_pieces_stay_in_their_field() -> None:
    vocabulary = {token: index for index, token in enumerate(SPECIAL_TOKENS)} | {"a\tb\nc\\": 7}
    report = summarize(Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]")), np.arange(8), words=1)
    assert report.frequency_table().splitlines()[1] == "a\\tb\\nc\\\\\t7\t7"


def test_published_markers_keep_par_as_text_and_remove_tab() -> None:
    sentences = ["[TAB] One[TAB] two.[PAR]", "[TAB]three", "four", ""]
    assert list(training_text(sentences, "published")) == ["Onetwo.[PAR]", "[TAB]three", "four"]
    assert list(training_text(sentences, "removed")) == ["One[TAB] two.", "three", "four"]
    vocabulary = train_tokenizer(SENTENCES, 120, markers="published").get_vocab()
    assert {".[", "PAR"} <= set(vocabulary), "as in the published tokenizers"
    assert [vocabulary[token] for token in SPECIAL_TOKENS] == list(range(7))
    assert ".[" not in train_tokenizer(SENTENCES, 120).get_vocab()


@pytest.mark.golden
def test_the_published_tokenizer_has_pieces_of_the_marker(golden_dir: Path) -> None:
    vocabulary = load_tokenizer(require(golden_dir / "tokenizer_base.json")).get_vocab()
    assert ".[" in vocabulary
    assert not [piece for piece in vocabulary if "TAB" in piece and piece != "[TAB]"]


def test_f95_is_the_frequency_at_95_percent_of_the_pieces() -> None:
    vocabulary = {token: index for index, token in enumerate(SPECIAL_TOKENS)}
    vocabulary |= {f"piece{index}": index for index in range(7, 107)}
    counts = np.concatenate([np.full(7, 1000), np.arange(100)])
    report = summarize(Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]")), counts, words=10)
    assert report.frequency_95 == 4
    assert report.unused == 1
    assert report.unknown_tokens == 1000


def test_truncation_and_padding_of_a_file_are_not_taken_over(tmp_path: Path, trained: Tokenizer) -> None:
    short = Tokenizer.from_str(trained.to_str())
    short.enable_truncation(3)
    short.enable_padding(pad_id=3, pad_token="[PAD]", length=64)
    short.save(str(tmp_path / "tokenizer.json"))
    text = "The cat saw 1999 balls."
    expected = trained.encode(text, add_special_tokens=False).ids
    assert len(expected) > 3
    assert load_tokenizer(tmp_path).encode(text, add_special_tokens=False).ids == expected


def test_the_vocabulary_reaches_to_the_largest_id_though_others_are_left_out() -> None:
    vocabulary = {token: index for index, token in enumerate(SPECIAL_TOKENS)} | {"far": 70_000}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    assert tokenizer.get_vocab_size() == 8
    assert column_encoding(vocabulary_size(tokenizer)) == "ndarray:uint32"
