"""Corpus discovery: files read, their order, splits and cleaners; refused duplicates; files that are not read."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from elc_composer.common.errors import ConfigError, DataError
from streaming_prep.cli import main
from streaming_prep.corpus_names import known_corpus
from streaming_prep.discover import discover, notes_on


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text\n")
    return folder


def found(folder: Path, cleaner: str = "auto") -> list[tuple[str, str, str]]:
    return [(source.corpus, source.split, source.cleaner) for source in discover([folder], cleaner)]


def notes(*folders: Path) -> list[str]:
    return notes_on(folders, discover(folders), "auto")


def unread(*folders: Path) -> str:
    """The one line about files that are not read; empty if there is none."""
    lines = [note for note in notes(*folders) if note.startswith("not read: ")]
    assert len(lines) <= 1
    assert all("\n" not in line for line in lines)
    return "".join(lines)


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
    assert notes(tmp_path) == []


def test_plain_folders(tmp_path: Path) -> None:
    touch(tmp_path, "novel.txt", "web.jsonl", "dev/novel.txt", "test/novel.txt", "qed.valid.txt", ".hidden/x.txt")
    assert found(tmp_path) == [
        ("novel", "train", "none"),
        ("web", "train", "none"),
        ("novel", "dev", "none"),
        ("qed", "dev", "qed"),
    ]
    assert {cleaner for _, _, cleaner in found(tmp_path, "childes")} == {"aochildes"}


def test_a_plain_val_file_is_not_trained_on(tmp_path: Path) -> None:
    touch(tmp_path, "novel.txt", "novel.val.txt")
    assert [split for _, split, _ in found(tmp_path)] == ["train", "dev"]


def test_errors_name_the_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere does not exist"):
        discover([tmp_path / "nowhere"])
    with pytest.raises(DataError, match=r"holds no <corpus>\.train"):
        discover([tmp_path])
    touch(tmp_path, "cbt.dev")
    with pytest.raises(DataError, match="holds no train files"):
        discover([tmp_path])
    with pytest.raises(ConfigError, match="switchbord"):
        discover([touch(tmp_path, "cbt.train")], "switchbord")


def test_links_are_followed_and_dangling_links_refused(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere", "novel.txt")
    corpus = touch(tmp_path / "corpus", "own.txt")
    (corpus / "linked").symlink_to(tmp_path / "elsewhere")
    (corpus / "around").symlink_to(corpus)
    assert [corpus for corpus, _, _ in found(corpus)] == ["novel", "own"]
    (corpus / "lost.txt").symlink_to(tmp_path / "nowhere.txt")
    with pytest.raises(DataError, match=r"lost\.txt is a dangling link"):
        discover([corpus])


def test_a_plain_folder_named_dev_is_dev_if_given_itself(tmp_path: Path) -> None:
    touch(tmp_path, "train/novel.txt", "dev/novel.txt")
    assert [source.split for source in discover([tmp_path / "train", tmp_path / "dev"])] == ["train", "dev"]


def test_the_name_of_a_single_corpus_folder_does_not_make_it_dev(tmp_path: Path) -> None:
    touch(tmp_path / "dev-diary", "a.txt")
    assert found(tmp_path / "dev-diary") == [("a", "train", "none")]


def test_a_name_that_is_not_utf8_is_an_error(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_text("text")
    with pytest.raises(DataError, match=r"caf\\xe9\.txt is not UTF-8; rename it"):
        discover([tmp_path])


@pytest.mark.parametrize(
    "names",
    [
        ["10M/aochildes.txt", "100M/aochildes.txt"],
        ["train_10M/childes.train.txt", "train_100M/childes.train.txt"],
        ["train_10M/cbt.train", "train_100M/cbt.train"],
        ["original/aochildes.txt", "clean/aochildes.txt"],
        ["a/b/original/qed.txt", "qed.txt"],
        ["aochildes.jsonl", "aochildes.txt"],
        ["childes.train", "aochildes.train"],
        ["simple_wiki.txt", "simple_wikipedia.jsonl"],
        ["v1/cbt.txt", "v2/cbt.txt"],
        ["2023/cbt.train", "2024/cbt.train"],
        ["seed-0/cbt.train", "seed-1/cbt.train"],
        ["cbt-00001-of-00004.train", "cbt-00001-of-00008.train"],
        ["cbt.txt", "cbt.part1.txt"],
        ["10M/cbt.part1.txt", "100M/cbt.part2.txt"],
        ["part-00/cbt.txt", "part-01/cbt.jsonl"],
        ["childes_10M.train", "childes_100M.train"],
        ["Childes.txt", "AOCHILDES.txt"],
        ["open-subtitles.txt", "open_subtitles.txt"],
        ["gutenberg.txt", "gutenberg (1).txt"],
        ["gutenberg.txt", "gutenberg copy.txt"],
        ["10M/homemade.train", "100M/homemade.train"],
        ["qed.valid.txt", "dev/qed.txt", "qed.txt"],
    ],
    ids=" ".join,
)
def test_two_versions_of_a_corpus_are_refused_and_listed(tmp_path: Path, names: list[str]) -> None:
    touch(tmp_path, *names)
    with pytest.raises(DataError, match=r"the same corpus would be read twice: .*--corpus") as error:
        discover([tmp_path])
    twice = [name for name in names if name != "qed.txt" or "qed.valid.txt" not in names]
    assert all(str(tmp_path / name) in str(error.value) for name in twice)


def test_two_versions_in_two_corpus_folders_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "babylm/childes.train", "own/aochildes.txt", "own/novel.txt")
    with pytest.raises(DataError, match=r"aochildes \(train\) as .*childes\.train, .*own/aochildes\.txt"):
        discover([tmp_path / "babylm", tmp_path / "own"])
    touch(tmp_path, "train_10M/cbt.train", "train_100M/cbt.train", "dev/cbt.dev")
    assert len(discover([tmp_path / "train_10M", tmp_path / "dev"])) == 2


@pytest.mark.parametrize(
    "names",
    [
        ["part-00/cbt.txt", "part-01/cbt.txt", "part-02/cbt.txt"],
        ["cbt.part1.txt", "cbt.part2.txt"],
        ["cbt.part1.train", "cbt.part2.train"],
        ["cbt-00001-of-00004.train", "cbt-00002-of-00004.train"],
        ["cbt-00001-of-00004.jsonl", "cbt-00002-of-00004.jsonl"],
        ["shard_0/cbt.train", "shard_1/cbt.train"],
        ["part-00/homemade.train", "part-01/homemade.train"],
        ["train_10M/part1/cbt.train", "train_10M/part2/cbt.train"],
    ],
    ids=" ".join,
)
def test_parts_of_a_corpus_are_read_with_its_cleaner(tmp_path: Path, names: list[str]) -> None:
    touch(tmp_path, *names)
    name = "homemade" if "homemade" in names[0] else "cbt"
    cleaner = "none" if name == "homemade" else "cbt"
    assert found(tmp_path) == [(name, "train", cleaner)] * len(names)


def test_parts_in_several_corpus_folders_are_read(tmp_path: Path) -> None:
    touch(tmp_path, "part-00/cbt.train", "part-01/cbt.train")
    assert len(discover([tmp_path / "part-00", tmp_path / "part-01"])) == 2


def test_parts_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    touch(tmp_path, *(f"cbt.part{number}.txt" for number in (10, 9, 1, 100)))
    assert [source.file for source in discover([tmp_path])] == [f"cbt.part{number}.txt" for number in (1, 9, 10, 100)]


def test_own_text_of_equal_names_is_read_and_noted(tmp_path: Path) -> None:
    touch(tmp_path, "letters/a.txt", "diary/a.txt", "chapter1.txt", "chapter2.txt", "notes/cats.jsonl")
    assert len(found(tmp_path)) == 5
    (line,) = [note for note in notes(tmp_path) if "of the same name" in note]
    assert f"{tmp_path / 'diary/a.txt'}, {tmp_path / 'letters/a.txt'}" in line
    assert "chapter" not in line


def test_own_text_in_numbered_folders_needs_no_note(tmp_path: Path) -> None:
    touch(tmp_path, "part-0/a.txt", "part-1/a.txt")
    assert not [note for note in notes(tmp_path) if "of the same name" in note]


@pytest.mark.parametrize("names", [("novel.txt", "copy-of-novel.txt"), ("part-0/cbt.train", "part-1/cbt.train")])
def test_files_of_equal_content_are_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], names: tuple[str, str]
) -> None:
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_text("A sentence of some words.\n" * 30)
    command = ["build", "--corpus", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert main([*command, "--vocab-size", "100", "--seq-length", "16"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "same content" in line]
    assert all(str(tmp_path / "in" / name) in line for name in names)


def test_the_same_file_under_two_paths_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "sub/novel.txt")
    with pytest.raises(DataError, match="are the same file"):
        discover([tmp_path, tmp_path / "sub"])
    (tmp_path / "link.txt").symlink_to(tmp_path / "sub" / "novel.txt")
    with pytest.raises(DataError, match="are the same file"):
        discover([tmp_path])
    (tmp_path / "link.txt").unlink()
    (tmp_path / "again").symlink_to(tmp_path)
    with pytest.raises(DataError, match="are the same file"):
        discover([tmp_path, tmp_path / "again"])


UNREAD = ["x.valid", "A.TRAIN", "b.train.gz", "c.parquet", "d.csv", "sub/e.TXT", "cbt.train.part1", "f.json", "g.zip"]


def test_files_that_look_like_text_and_are_not_read_are_named_in_one_line(tmp_path: Path) -> None:
    touch(tmp_path, "cbt.train", "cbt.dev", "cbt.test")
    assert unread(tmp_path) == ""
    touch(tmp_path, "notes.txt", *random.Random(0).sample(UNREAD, 7))
    line = unread(tmp_path)
    assert sum(name in line for name in ["notes.txt", *UNREAD]) == 8
    assert "more" not in line
    touch(tmp_path, *UNREAD)
    assert " and 2 more" in unread(tmp_path)


@pytest.mark.parametrize("name", UNREAD)
def test_each_unread_file_of_a_plain_folder_is_named(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "novel.txt", name)
    assert str(tmp_path / name) in unread(tmp_path)


def test_unread_files_of_every_corpus_folder_are_named_with_line_breaks_escaped(tmp_path: Path) -> None:
    touch(tmp_path, "a/novel.txt", "a/x.csv", "b/cbt.train", "b/two\nlines.txt", "b/test/cbt.test")
    line = unread(tmp_path / "a", tmp_path / "b")
    assert "a/x.csv, " in line
    assert r"b/two\nlines.txt" in line


def test_hidden_files_and_files_about_the_corpus_are_not_named(tmp_path: Path) -> None:
    touch(tmp_path, "cbt.train", "._cbt.train", ".cache/a.txt", "__MACOSX/._a.txt", "__MACOSX/cbt.train", "README.md")
    touch(tmp_path, "LICENSE.txt", "cbt.test", "picture.png")
    assert found(tmp_path) == [("cbt", "train", "cbt")]
    assert unread(tmp_path) == ""


def test_a_prepared_folder_within_the_corpus_folder_is_skipped(tmp_path: Path) -> None:
    for out in (tmp_path, tmp_path / "prepared"):
        touch(out, "manifest.json", "tokenizer/tokenizer.json", "tokenizer/x.tsv", "seq_16/train/index.json", "own.txt")
    assert [source.file for source in discover([tmp_path])] == ["own.txt", "prepared/own.txt"]
    assert unread(tmp_path) == ""


def test_a_folder_of_unreadable_files_alone_says_which_they_are(tmp_path: Path) -> None:
    touch(tmp_path, "a.parquet", "b.csv")
    with pytest.raises(DataError, match=r"holds no <corpus>\.train.*only .*a\.parquet, .*b\.csv"):
        discover([tmp_path])


def test_known_names() -> None:
    spellings = ["childes", "aochildes", "CHILDES", "childes_10M", "childes-00001-of-00004", "childes (2)"]
    assert {known_corpus(name) for name in spellings} == {"aochildes"}
    assert known_corpus("Simple-Wiki") == "simple_wikipedia"
    assert known_corpus("gutenberg_poems") is None
    assert known_corpus("none") is None
    assert known_corpus("") is None


@pytest.mark.parametrize(
    "other",
    [
        "childes - Copy.train",
        "Copy of childes.train",
        "childes_copy2.txt",
        "train_childes.txt",
        "childes_clean.train",
        "childes_old.txt",
        "childes-v2.txt",
        "sub/childes.txt",
    ],
)
def test_versions_of_a_corpus_by_their_words_are_refused(tmp_path: Path, other: str) -> None:
    touch(tmp_path, f"childes{Path(other).suffix}", other)
    with pytest.raises(DataError, match=r"the same corpus would be read twice: .*childes"):
        discover([tmp_path], "auto")


@pytest.mark.parametrize("pair", [("opensubtitles", "open_subtitles"), ("gutenberg_fixed", "gutenberg")])
def test_other_spellings_of_a_corpus_are_refused(tmp_path: Path, pair: tuple[str, str]) -> None:
    touch(tmp_path, *(f"{name}.train" for name in pair))
    with pytest.raises(DataError, match="the same corpus would be read twice"):
        discover([tmp_path], "auto")


@pytest.mark.parametrize(
    "names",
    [("childes.part1", "childes.shard1"), ("part1/childes", "part-2/childes"), ("childes.part1", "childes.part01")],
)
def test_parts_are_counted_in_one_way_and_once(tmp_path: Path, names: tuple[str, str]) -> None:
    touch(tmp_path, *(f"{name}.train" for name in names))
    with pytest.raises(DataError, match="the same corpus would be read twice"):
        discover([tmp_path], "auto")
