"""Find the files of a corpus: the BabyLM layouts, and plain folders of .txt and .jsonl files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from elc_composer.common.errors import ConfigError, DataError
from streaming_prep.cleaners import get_cleaner
from streaming_prep.corpus_files import PLAIN_FORMS, SPLITS, is_babylm, name_files, readable_files, unread_files
from streaming_prep.corpus_names import check_used_once, corpus_name, repeated_names

_DEV_WORDS = {"dev", "valid", "validation", "val"}
_TEST_WORDS = {"test"}


@dataclass(frozen=True)
class Source:
    """One file of a corpus."""

    corpus: str
    split: str
    """`train` or `dev`."""
    file: str
    """Its path within the corpus folder."""
    path: Path
    form: str
    """`text`, or `jsonl`: one JSON object a line, with its text under `text`."""
    cleaner: str


def discover(folders: Sequence[Path], cleaner: str = "auto", dev: Sequence[Path] = ()) -> list[Source]:
    """The train and dev files below `folders`, ordered by split, corpus and file name.

    `<corpus>.train` and `<corpus>.dev` (2023 layout, or in folders such as `train_10M/` and `dev/`) take precedence. A
    folder without any is read as a plain folder: all `.txt` and `.jsonl` files, as dev if their name or folder says dev
    or valid. Test files, hidden files and `__MACOSX` are skipped; links are followed.

    Args:
        cleaner: a cleaner's name, or `auto`: the cleaner of the corpus's name, `none` if it has none.
        dev: folders or files of dev text. From folders, `.dev` files are read, or without any, `.txt` and `.jsonl`.

    Raises:
        DataError: a folder is missing or holds no train files, a file cannot be read, or a corpus comes twice.
        ConfigError: no such cleaner.
    """
    found: list[Source] = []
    for folder in folders:
        if not folder.is_dir():
            state = "is a file" if folder.exists() else "does not exist"
            raise DataError(f"the corpus folder {folder} {state}; give --corpus a folder of .train/.dev or .txt files")
        # The name of one folder among several may tell the split: `--corpus data/train data/dev`.
        own_name = folder.resolve().name if len(folders) > 1 else ""
        found += _sources_of(folder, own_name, cleaner)
    if not found:
        raise DataError(f"{_nothing_in(folders)}; give --corpus a folder that does")
    if not any(source.split == "train" for source in found):
        raise DataError(f"{folders[0]} holds no train files, only dev; give --corpus the folder of train files too")
    for place in dev:
        found += _dev_sources(place, cleaner)
    check_used_once(_named(found))
    return sorted(found, key=lambda source: (SPLITS.index(source.split), source.corpus, _natural(source.file)))


def notes_on(folders: Sequence[Path], sources: Sequence[Source], cleaner: str) -> list[str]:
    """Lines for the user: corpora without a cleaner, files that are not read, names that occur several times."""
    notes = []
    plain = sorted({source.corpus for source in sources if source.cleaner == "none"})
    if plain and cleaner == "auto":
        more = f" and {len(plain) - 5:,} more" if len(plain) > 5 else ""
        notes.append(f"no cleaner for {', '.join(map(repr, plain[:5]))}{more}: the text is used as it is")
    read = {source.path for source in sources}
    unread = [path for folder in folders for path in unread_files(folder, read)]
    if unread:
        notes.append(f"not read: {name_files(unread)} (only .train and .dev are read, or .txt and .jsonl)")
    repeated = repeated_names(_named(sources))
    if repeated:
        notes.append(f"files of the same name, all read: {name_files(repeated[0])}; if one is a copy, remove it")
    return notes


def _sources_of(folder: Path, own_name: str, cleaner: str) -> list[Source]:
    files = readable_files(folder)
    babylm = [path for path in files if is_babylm(path)]
    if babylm:
        return [_source(path, folder, path.stem, path.suffix[1:], "text", cleaner) for path in babylm]
    sources = []
    for path in files:
        split = _plain_split(own_name, path.relative_to(folder).parts)
        if split is not None:
            stem = path.name.split(".")[0]
            sources.append(_source(path, folder, stem, split, PLAIN_FORMS[path.suffix], cleaner))
    return sources


def _dev_sources(place: Path, cleaner: str) -> list[Source]:
    if not place.exists():
        raise DataError(f"--dev {place} does not exist; give a folder or file of dev text")
    folder = place if place.is_dir() else place.parent
    files = readable_files(place) if place.is_dir() else [place]
    named = [path for path in files if path.suffix == ".dev"]
    plain = [path for path in files if path.suffix in PLAIN_FORMS]
    if not named and not plain:
        raise DataError(f"--dev {place} holds no .dev, .txt or .jsonl file; give a folder or file of dev text")
    return [
        _source(path, folder, path.name.split(".")[0], "dev", PLAIN_FORMS.get(path.suffix, "text"), cleaner)
        for path in named or plain
    ]


def _source(path: Path, folder: Path, stem: str, split: str, form: str, cleaner: str) -> Source:
    corpus = corpus_name(stem)
    return Source(corpus, split, path.relative_to(folder).as_posix(), path, form, _cleaner_name(corpus, cleaner))


def _cleaner_name(corpus: str, cleaner: str) -> str:
    try:
        return get_cleaner(corpus if cleaner == "auto" else cleaner).name
    except DataError as error:
        if cleaner != "auto":
            raise ConfigError(f"--cleaner: {error}") from error
        return "none"


def _plain_split(folder_name: str, parts: Sequence[str]) -> str | None:
    words = _words(parts)
    if words & _TEST_WORDS:
        return None
    return "dev" if (words | _words([folder_name])) & _DEV_WORDS else "train"


def _words(parts: Sequence[str]) -> set[str]:
    return {word for part in parts for word in re.split("[-_.]", part.lower())}


def _named(sources: Sequence[Source]) -> list[tuple[str, str, Path]]:
    return [(source.corpus, source.split, source.path) for source in sources]


def _nothing_in(folders: Sequence[Path]) -> str:
    unread = [path for folder in folders for path in unread_files(folder, set())]
    there = f", only {name_files(unread)}" if unread else ""
    places = ", ".join(str(folder) for folder in folders)
    return f"{places} holds no <corpus>.train, .txt or .jsonl file{there}"


def _natural(file: str) -> list[str | int]:
    # part2 before part10: with published packing a file's text continues in the next file of the corpus.
    parts = re.split(r"([0-9]{1,18})", file)
    return [int(part) if index % 2 else part for index, part in enumerate(parts)]
