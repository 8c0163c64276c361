"""Corpus names from file names, and the check that no corpus is read twice."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from elc_composer.common.errors import DataError
from streaming_prep.cleaners import ALIASES, CLEANERS
from streaming_prep.corpus_files import name_files

_COUNTER = re.compile(r"(?i)(?<![a-z0-9])(?:(?:part|shard|chunk)[-_. ]?\d+|\d+(?=[-_ ]of[-_ ]\d))(?![a-z0-9])")
"""The varying part of a counter. The total of `00001-of-00004` is not in it: `-of-00008` is another set of parts."""
_COUNTER_SUFFIX = re.compile(r"(?i)[-_. ](?:(?:part|shard|chunk)[-_. ]?\d+|\d+[-_ ]of[-_ ]\d+)$")
_VARIANT_SUFFIX = re.compile(r"(?i)(?:[-_. ]?\d+[mk]|[-_. ]?\(\d+\)|[-_. ]copy)$")
"""Sizes (`childes_10M`) and copies (`childes (1)`) of a corpus."""

_VERSION_WORDS = {
    "train", "dev", "copy", "of", "old", "new", "clean", "cleaned", "original", "raw", "fixed", "final", "backup",
}  # fmt: skip
_OTHER_SPELLINGS = {
    "opensubtitles": "open_subtitles",
    "subtitles": "open_subtitles",
    "childrens_stories": "children_stories",
    "children_s_stories": "children_stories",
}


def corpus_name(stem: str) -> str:
    """The corpus of a file name without its split: `cbt.part1` is cbt. Unknown names are returned unchanged."""
    base = _COUNTER_SUFFIX.sub("", stem)
    return base if known_corpus(base) is not None else stem


def known_corpus(name: str) -> str | None:
    """The 2023 name of a BabyLM corpus in any spelling (`CHILDES`, `simple-wiki_10M`), None for other names."""
    plain = re.sub("[- ]", "_", _VARIANT_SUFFIX.sub("", _COUNTER_SUFFIX.sub("", name)).lower())
    plain = ALIASES.get(plain, plain)
    return plain if plain in CLEANERS and plain != "none" else None


def check_used_once(files: Iterable[tuple[str, str, Path]]) -> None:
    """Check (corpus, split, path) of every file that is read.

    Several files of one known corpus and split are parts of it if their paths differ only in a counter. Otherwise they
    are versions of the same text (`train_10M/` and `train_100M/`, `original/` and `clean/`). For unknown corpora only
    files named `<corpus>.train` or `.dev` are checked.

    Raises:
        DataError: two versions of a corpus, or one file under two paths.
    """
    groups: dict[tuple[str, str], list[Path]] = {}
    targets: dict[Path, Path] = {}
    for corpus, split, path in files:
        if (first := targets.setdefault(path.resolve(), path)) is not path:
            raise DataError(f"{first} and {path} are the same file; give --corpus folders that do not overlap")
        known = known_corpus(corpus) or _version_of(corpus)
        if known is not None or path.suffix == f".{split}":
            groups.setdefault((known or corpus, split), []).append(path)
    repeated = {key: paths for key, paths in groups.items() if not _are_parts(paths)}
    if repeated:
        listed = "; ".join(f"{corpus} ({split}) as {name_files(paths)}" for (corpus, split), paths in repeated.items())
        raise DataError(
            f"the same corpus would be read twice: {listed}. Give --corpus the folders that you mean (train_10M dev), "
            "or rename parts of a corpus so that their paths differ only in a counter (part-00/, .part1, "
            "-00001-of-00004)"
        )


def repeated_names(files: Iterable[tuple[str, str, Path]]) -> list[list[Path]]:
    """Files of unknown corpora with the same name and split in several places, which may hold the same text."""
    groups: dict[tuple[str, str], list[Path]] = {}
    for corpus, split, path in files:
        if known_corpus(corpus) is None:
            groups.setdefault((corpus, split), []).append(path)
    return [paths for paths in groups.values() if not _are_parts(paths)]


def _version_of(name: str) -> str | None:
    """The known corpus that `name` is a version of by its words (`train_childes`, `childes - old`), None for others.

    Such a file has no cleaner of its own; it only must not be read beside the corpus.
    """
    words = [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word]
    while words and (words[-1] in _VERSION_WORDS or re.fullmatch(r"v?\d+[mk]?|copy\d+", words[-1])):
        words.pop()
    while words and words[0] in _VERSION_WORDS:
        words.pop(0)
    plain = "_".join(words)
    return known_corpus(_OTHER_SPELLINGS.get(plain, plain))


def _are_parts(paths: Iterable[Path]) -> bool:
    """True if the paths differ only in a counter, and no two have the same number."""
    full = [os.path.abspath(path) for path in paths]
    templates = {_COUNTER.sub(lambda match: re.sub(r"\d+", "#", match[0]), path) for path in full}
    numbers = {tuple(int(number) for number in re.findall(r"\d+", " ".join(_COUNTER.findall(path)))) for path in full}
    return len(templates) == 1 and len(numbers) == len(full)
