"""Which files make up a corpus: the BabyLM layouts, and plain folders of .txt and .jsonl."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from elc_composer.common.errors import ConfigError, DataError
from streaming_prep.cleaners import get_cleaner

SPLITS = ("train", "dev")
_PLAIN = {".txt": "text", ".jsonl": "jsonl"}
_DEV_WORDS = {"dev", "valid", "validation"}
_TEST_WORDS = {"test"}


@dataclass(frozen=True)
class Source:
    """One file of a corpus. `file` is its path within the corpus folder, `form` is `text` or `jsonl`."""

    corpus: str
    split: str
    file: str
    path: Path
    form: str
    cleaner: str


def discover(folders: Sequence[Path], cleaner: str = "auto") -> list[Source]:
    """The train and dev files below `folders`, ordered by split, corpus and file name.

    Files called `<corpus>.train` / `.dev` count first (2023 layout, or in folders such as `train_10M/` and `dev/`);
    without any, all `.txt` and `.jsonl` files do, as dev where their name or folder says dev or valid. Test files
    are left out, and what is hidden; links are followed. `cleaner` is a cleaner's name, or `auto`: the one of the
    corpus's name, `none` where there is none.

    Raises:
        DataError: a folder is missing, holds no corpus or what cannot be read, or one corpus comes twice.
        ConfigError: no such cleaner.
    """
    found: list[Source] = []
    for folder in folders:
        if not folder.is_dir():
            state = "is a file" if folder.is_file() else "is not there"
            raise DataError(f"the corpus folder {folder} {state}; give --corpus a folder of .train/.dev files")
        files = sorted(_files(folder))
        named = [_source(path, folder, path.stem, path.suffix[1:], "text") for path in files if _is_babylm(path)]
        found += named or [
            _source(path, folder, path.name.split(".")[0], split, _PLAIN[path.suffix])
            for path in files
            if path.suffix in _PLAIN and (split := _plain_split(path.relative_to(folder), folder)) is not None
        ]
    if not found:
        places = ", ".join(str(folder) for folder in folders)
        raise DataError(f"{places} holds no <corpus>.train, .txt or .jsonl file; give --corpus a folder that does")
    if not any(source.split == "train" for source in found):
        raise DataError(f"{folders[0]} holds no train files, only dev; give the folder of <corpus>.train files too")
    _refuse_twins(found)
    ordered = sorted(found, key=lambda source: (SPLITS.index(source.split), source.corpus, source.file))
    return [_with_cleaner(source, cleaner) for source in ordered]


def _source(path: Path, folder: Path, corpus: str, split: str, form: str) -> Source:
    return Source(corpus, split, path.relative_to(folder).as_posix(), path, form, "")


def _is_babylm(path: Path) -> bool:
    return path.suffix[1:] in SPLITS and bool(path.stem)


def _files(folder: Path) -> Iterator[Path]:
    def stop(error: OSError) -> None:
        raise error

    entered: set[tuple[int, int]] = set()
    # Path.rglob passes by, without a word, folders that are links and those that may not be read.
    for place, folders, names in os.walk(folder, onerror=stop, followlinks=True):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in entered:  # a link to a folder around it
            folders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in [Path(place, name) for name in names if not name.startswith(".")]:
            wanted = _is_babylm(path) or path.suffix in _PLAIN
            if wanted and path.is_symlink() and not path.exists():
                raise DataError(f"{path} is a link to nothing; remove it or put the corpus there")
            if wanted and path.is_file():
                _refuse_name(path)
                yield path


def _refuse_name(path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")
        raise DataError(f"the name of {shown} is not UTF-8; rename it") from None


def _plain_split(path: Path, folder: Path) -> str | None:
    words = _words(path.parts)
    if words & _TEST_WORDS:
        return None
    # `--corpus data/train data/dev` names folders whose own name tells the split.
    return "dev" if (words | _words([folder.resolve().name])) & _DEV_WORDS else "train"


def _words(parts: Sequence[str]) -> set[str]:
    return {word for part in parts for word in part.lower().replace("_", ".").replace("-", ".").split(".")}


def _refuse_twins(sources: list[Source]) -> None:
    # The same corpus at two sizes (train_10M beside train_100M) would be trained on twice.
    seen: dict[tuple[str, str], Source] = {}
    places: dict[Path, Source] = {}
    for source in sources:
        if (first := places.setdefault(source.path.resolve(), source)) is not source:
            raise DataError(
                f"{first.path} and {source.path} are the same file; give --corpus folders that do not overlap"
            )
        if source.path.suffix in _PLAIN:
            continue
        twin = seen.setdefault((source.corpus, source.split), source)
        if twin is not source:
            raise DataError(
                f"{source.corpus}.{source.split} is there twice, as {twin.path} and {source.path}; "
                "give --corpus the folders that you mean, such as train_10M and dev"
            )


def _with_cleaner(source: Source, cleaner: str) -> Source:
    try:
        name = get_cleaner(source.corpus if cleaner == "auto" else cleaner).name
    except DataError as error:
        if cleaner != "auto":
            raise ConfigError(str(error)) from error
        name = "none"
    return replace(source, cleaner=name)
