"""Which files count as corpus, in which order, with which cleaner."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from elc_composer.common.errors import ConfigError, DataError
from streaming_prep.discover import discover


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text\n")
    return folder


def found(folder: Path, cleaner: str = "auto") -> list[tuple[str, str, str]]:
    return [(source.corpus, source.split, source.cleaner) for source in discover([folder], cleaner)]


def test_the_2023_layout(tmp_path: Path) -> None:
    touch(tmp_path, "qed.train", "cbt.train", "cbt.dev", "cbt.test", "notes.txt")
    assert found(tmp_path) == [("cbt", "train", "cbt"), ("qed", "train", "qed"), ("cbt", "dev", "cbt")]


def test_the_2024_layout_and_its_names(tmp_path: Path) -> None:
    touch(tmp_path, "train_10M/childes.train", "train_10M/simple_wiki.train", "dev/childes.dev", "test/childes.test")
    assert found(tmp_path) == [
        ("childes", "train", "aochildes"),
        ("simple_wiki", "train", "simple_wikipedia"),
        ("childes", "dev", "aochildes"),
    ]


def test_two_sizes_of_a_corpus_are_not_mixed(tmp_path: Path) -> None:
    touch(tmp_path, "train_10M/cbt.train", "train_100M/cbt.train", "dev/cbt.dev")
    with pytest.raises(DataError, match=r"cbt\.train is there twice.*--corpus"):
        discover([tmp_path])
    assert len(discover([tmp_path / "train_10M", tmp_path / "dev"])) == 2


def test_plain_folders(tmp_path: Path) -> None:
    touch(tmp_path, "novel.txt", "web.jsonl", "dev/novel.txt", "test/novel.txt", "qed.valid.txt", ".hidden/x.txt")
    assert found(tmp_path) == [
        ("novel", "train", "none"),
        ("web", "train", "none"),
        ("novel", "dev", "none"),
        ("qed", "dev", "qed"),
    ]
    assert {cleaner for _, _, cleaner in found(tmp_path, "childes")} == {"aochildes"}


def test_what_cannot_be_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere is not there"):
        discover([tmp_path / "nowhere"])
    with pytest.raises(DataError, match=r"holds no <corpus>\.train"):
        discover([tmp_path])
    touch(tmp_path, "cbt.dev")
    with pytest.raises(DataError, match="holds no train files"):
        discover([tmp_path])
    with pytest.raises(ConfigError, match="switchbord"):
        discover([touch(tmp_path, "cbt.train")], "switchbord")


def test_links_are_followed_and_those_to_nothing_named(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere", "novel.txt")
    corpus = touch(tmp_path / "corpus", "own.txt")
    (corpus / "linked").symlink_to(tmp_path / "elsewhere")
    (corpus / "around").symlink_to(corpus)
    assert [corpus for corpus, _, _ in found(corpus)] == ["novel", "own"]
    (corpus / "lost.txt").symlink_to(tmp_path / "nowhere.txt")
    with pytest.raises(DataError, match=r"lost\.txt is a link to nothing"):
        discover([corpus])


def test_no_file_is_taken_twice(tmp_path: Path) -> None:
    touch(tmp_path, "sub/novel.txt")
    with pytest.raises(DataError, match="are the same file"):
        discover([tmp_path, tmp_path / "sub"])


def test_a_plain_folder_called_dev_is_dev_when_it_is_given_itself(tmp_path: Path) -> None:
    touch(tmp_path, "train/novel.txt", "dev/novel.txt")
    assert [source.split for source in discover([tmp_path / "train", tmp_path / "dev"])] == ["train", "dev"]


def test_a_name_that_is_not_utf8_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_text("text")
    with pytest.raises(DataError, match=r"caf\\xe9\.txt is not UTF-8; rename it"):
        discover([tmp_path])
