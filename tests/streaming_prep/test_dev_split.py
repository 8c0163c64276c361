"""The dev split of corpora without dev files: whole documents, the same ones for every chunk size and run."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elc_composer.common.errors import DataError
from streaming_prep.cli import main
from streaming_prep.dev_split import Document, choose_documents
from streaming_prep.discover import discover
from streaming_prep.manifest_reading import read_manifest
from streaming_prep.reading import open_prepared
from tests.streaming_prep.corpora import build_small, contents

WORDS = ["red", "green", "blue", "cat", "dog", "bird", "runs", "sees", "small", "tree"]


def write_text(path: Path, documents: int, seed: int = 0, sentences: int = 6) -> list[list[str]]:
    """A plain text file; every sentence has a number of its own. Returns the sentences of each document."""
    generator = random.Random(seed)
    texts = []
    for document in range(documents):
        size = generator.randint(1, sentences)
        texts.append(
            [f"{' '.join(generator.choices(WORDS, k=5))} x{seed}d{document}s{number} end." for number in range(size)]
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"text": "\n".join(text)}) + "\n" for text in texts))
    else:
        path.write_text("\n\n".join("\n".join(text) for text in texts) + "\n")
    return texts


def names_in(folder: Path, split: str) -> list[str]:
    """The number of every sentence in a split, in order, without those that packing repeats or cuts."""
    with open_prepared(str(folder)) as opened:
        tokenizer = opened.tokenizer()
        ids = np.concatenate([segment for shard in opened.segments(f"seq_48/{split}") for segment in shard])
    text = tokenizer.decode(ids.tolist(), skip_special_tokens=False)
    return ["x" + part.split(" ")[0] for part in text.split(" x")[1:]]


def build_without_dev(corpus: Path, out: Path, **changes: Any) -> Path:
    build_small(corpus, out, **{"packing": "concat", "seq_lengths": [48], "vocab_size": 300, **changes})
    return out


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    write_text(folder / "a.txt", 150, seed=1)
    write_text(folder / "sub" / "b.txt", 100, seed=2)
    write_text(folder / "c.jsonl", 60, seed=3)
    return folder


def test_every_document_is_in_one_split_and_nothing_is_lost(corpus: Path, tmp_path: Path) -> None:
    out = build_without_dev(corpus, tmp_path / "out", dev_share=0.1)
    train, dev = names_in(out, "train"), names_in(out, "dev")
    assert len(train) == len(set(train))
    whole = build_without_dev(corpus, tmp_path / "whole", dev_share=0)
    assert sorted(train + dev) == sorted(names_in(whole, "train"))
    assert not {name.split("s")[0] for name in train} & {name.split("s")[0] for name in dev}
    assert 0.07 < len(dev) / len(train + dev) <= 0.1
    assert {name.split("d")[0] for name in dev} == {"x1", "x2", "x3"}, "from every file"
    assert [name for name in names_in(whole, "train") if name in train] == train, "in the order of the text"


@pytest.mark.parametrize("changes", [{"chunk_bytes": 500}, {"chunk_bytes": 1 << 20}, {"workers": 2}], ids=str)
def test_the_split_does_not_depend_on_chunks_and_workers(corpus: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    expected = build_without_dev(corpus, tmp_path / "expected", packing="published")
    found = build_without_dev(corpus, tmp_path / "found", packing="published", **changes)
    assert contents(found) == contents(expected)
    assert (found / "seq_48" / "dev" / "index.json").exists()


def test_the_manifest_counts_train_and_dev_parts(corpus: Path, tmp_path: Path) -> None:
    manifest = read_manifest(build_without_dev(corpus, tmp_path / "out", dev_share=0.1))
    assert manifest.settings["dev_share"] == 0.1
    whole = read_manifest(build_without_dev(corpus, tmp_path / "whole", dev_share=0))
    for source in whole.sources:
        parts = [part for part in manifest.sources if part.file == source.file]
        assert [part.split for part in parts] == ["train", "dev"]
        assert sum(part.words for part in parts) == source.words
        assert sum(part.sentences for part in parts) == source.sentences
        assert sum(part.documents for part in parts) == source.documents
    for split in ("train", "dev"):
        tokens = sum(part.tokens for part in manifest.sources if part.split == split)
        assert manifest.outputs[f"seq_48/{split}"].source_tokens == tokens


def test_dev_words_do_not_enter_the_tokenizer(corpus: Path, tmp_path: Path) -> None:
    out = build_without_dev(corpus, tmp_path / "out", dev_share=0.1, min_frequency=1, vocab_size=2000)
    with open_prepared(str(out)) as opened:
        vocabulary = opened.tokenizer().get_vocab()
    documents = {name.split("s")[0] for name in names_in(out, "dev")}
    learned = {piece for piece in vocabulary if piece.startswith("Ġx")}
    assert learned
    assert not [piece for piece in learned for document in documents if piece == f"Ġ{document}s"]


def test_a_corpus_with_dev_files_is_left_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_text(tmp_path / "in" / "a.txt", 60)
    write_text(tmp_path / "in" / "dev.txt", 10, seed=1)
    out = build_without_dev(tmp_path / "in", tmp_path / "out")
    assert {name.split("d")[0] for name in names_in(out, "dev")} == {"x1"}
    assert {source.split for source in read_manifest(out).sources if source.file == "a.txt"} == {"train"}


def test_the_command_makes_a_dev_split_by_default_and_says_so(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["build", "--corpus", str(corpus), "--vocab-size", "200", "--seq-length", "16", "--workers", "1"]
    assert main([*command, "--out", str(tmp_path / "a")]) == 0
    assert "become the dev split; --dev or --dev-share change this" in capsys.readouterr().out
    assert set(read_manifest(tmp_path / "a").outputs) == {"seq_16/train", "seq_16/dev"}
    assert main([*command, "--out", str(tmp_path / "b"), "--dev-share", "0"]) == 0
    assert "no dev split: there are no dev files, and --dev-share is 0" in capsys.readouterr().out
    assert set(read_manifest(tmp_path / "b").outputs) == {"seq_16/train"}
    for share in ("-0.1", "0.6", "nan"):
        assert main([*command, "--out", str(tmp_path / "c"), "--dev-share", share]) == 2
        assert f"--dev-share is {share}, must be between 0 and 0.5" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["dev", "dev/more.txt", "named"])
def test_dev_text_can_be_given(tmp_path: Path, place: str) -> None:
    write_text(tmp_path / "train" / "a.txt", 60)
    write_text(tmp_path / "dev" / "more.txt", 10, seed=7)
    write_text(tmp_path / "named" / "more.dev", 10, seed=7)
    write_text(tmp_path / "named" / "more.train", 10, seed=8)
    out = build_without_dev(tmp_path / "train", tmp_path / "out", dev=[tmp_path / place])
    assert {name.split("d")[0] for name in names_in(out, "dev")} == {"x7"}
    assert {name.split("d")[0] for name in names_in(out, "train")} == {"x0"}


def test_wrong_dev_text_is_an_error(tmp_path: Path) -> None:
    write_text(tmp_path / "train" / "a.txt", 3)
    (tmp_path / "empty").mkdir()
    for place, message in ((tmp_path / "no", "does not exist"), (tmp_path / "empty", "holds no .dev, .txt or .jsonl")):
        with pytest.raises(DataError, match=f"--dev {place} {message}"):
            discover([tmp_path / "train"], dev=[place])
    with pytest.raises(DataError, match="are the same file"):
        discover([tmp_path / "train"], dev=[tmp_path / "train" / "a.txt"])


def test_one_long_document_gives_its_end(tmp_path: Path) -> None:
    sentences = [f"{' '.join(WORDS)} x0d0s{number} end." for number in range(400)]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "novel.txt").write_text("\n".join(sentences) + "\n")
    for chunk_bytes in (400, 1 << 20):
        out = build_without_dev(tmp_path / "in", tmp_path / str(chunk_bytes), chunk_bytes=chunk_bytes, dev_share=0.02)
        assert names_in(out, "dev") == [f"x0d0s{number}" for number in range(392, 400)]
        assert names_in(out, "train") == [f"x0d0s{number}" for number in range(392)]


def test_a_single_sentence_gives_no_dev_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("One sentence of six words.\n")
    command = ["build", "--corpus", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--vocab-size", "100"]
    assert main([*command, "--workers", "1", "--seq-length", "16", "--min-frequency", "1"]) == 0
    assert "no dev split: there are no dev files, and the text is too short" in capsys.readouterr().out
    assert set(read_manifest(tmp_path / "out").outputs) == {"seq_16/train"}


def documents_of(sizes: list[int]) -> list[Document]:
    found, line = [], 0
    for number, size in enumerate(sizes):
        found.append(Document("a.txt", 0, number, line, line + size))
        line += size + 1
    return found


def test_the_choice_is_close_to_the_share_and_never_everything() -> None:
    generator = random.Random(5)
    for _ in range(300):
        documents = documents_of([generator.choice([1, 2, 5, 30]) for _ in range(generator.randint(1, 60))])
        total = sum(document.sentences for document in documents)
        share = generator.choice([0.01, 0.1, 0.5])
        chosen = choose_documents(documents, share)
        size = sum(document.sentences for document in chosen)
        if total < 2:
            assert chosen == []
            continue
        target = max(1, share * total)
        assert target / 2 <= size < min(total, target + 1)
        assert chosen == sorted(chosen, key=lambda document: document.first)
        assert len({document.number for document in chosen}) == len(chosen)


def test_added_files_move_few_documents() -> None:
    first = documents_of([3] * 500)
    more = [Document("b.txt", 1, number, 4 * number, 4 * number + 3) for number in range(50)]
    before, after = (set(choose_documents(documents, 0.1)) for documents in (first, first + more))
    assert len(before - after) <= 5
