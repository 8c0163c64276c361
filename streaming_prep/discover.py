"""Which files make up a corpus: the BabyLM layouts, and plain folders of .txt and .jsonl."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from elc_composer.errors import ConfigError, DataError
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
    are left out. `cleaner` is a cleaner's name, or `auto`: the one of the corpus's name, `none` where there is none.

    Raises:
        DataError: a folder is missing, holds no corpus, or one corpus comes twice.
        ConfigError: no such cleaner.
    """
    found: list[Source] = []
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"the corpus folder {folder} is not there; give --corpus a folder of .train/.dev files")
        files = sorted(path for path in folder.rglob("*") if path.is_file() and not _hidden(path, folder))
        named = [_source(path, folder, path.stem, path.suffix[1:], "text") for path in files if _is_babylm(path)]
        found += named or [
            _source(path, folder, path.name.split(".")[0], split, _PLAIN[path.suffix])
            for path in files
            if path.suffix in _PLAIN and (split := _plain_split(path.relative_to(folder))) is not None
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


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _plain_split(path: Path) -> str | None:
    words = {word for part in path.parts for word in part.lower().replace("_", ".").replace("-", ".").split(".")}
    if words & _TEST_WORDS:
        return None
    return "dev" if words & _DEV_WORDS else "train"


def _refuse_twins(sources: list[Source]) -> None:
    # The same corpus at two sizes (train_10M beside train_100M) would be trained on twice.
    seen: dict[tuple[str, str], Source] = {}
    for source in sources:
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
