"""A local repository of revisions, in the layout of the Hub's cache, which from_pretrained reads with `cache_dir`.

    FOLDER/models--user--name/blobs/<sha256>              contents
                              refs/<branch>               the branch's snapshot
                              snapshots/<id>/<file>       links to contents

from_pretrained ignores `revision` for a plain folder, so a git repository on disk would not do.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import Any

from elc_composer.common.errors import ConfigError, DataError
from elc_composer.common.files import place, sha256_file, temporary_name, write_text
from elc_composer.common.json_files import read_object
from elc_composer.publishing.repository import MAIN, ORIGIN

NAME = re.compile(r"[A-Za-z0-9_][\w.-]{0,94}/[A-Za-z0-9_](?:[\w.-]{0,94}[A-Za-z0-9_])?", re.ASCII)
_CACHE_ENTRY = re.compile(r"(models|datasets|spaces|kernels)--.+|\..*|version\.txt|CACHEDIR\.TAG")


def check_name(name: str, option: str) -> str:
    """The name itself.

    Raises:
        ConfigError: it is not `user/name` in the Hub's characters.
    """
    if not NAME.fullmatch(name) or "--" in name or ".." in name or name.endswith(".git"):
        raise ConfigError(
            f"{option}: {name!r} is not a repository's name; it must be user/name, of letters, digits, '_', '.' and "
            "single '-'"
        )
    return name


class LocalRepository:
    """A repository in a folder with the layout of the Hub's cache; the cache itself will do.

    Args:
        folder: the folder; it is made by the first `write`.
        name: `user/name`, by which from_pretrained finds it.

    Raises:
        DataError: the folder exists and holds something else.
    """

    # transformers 5.17 passes local_files_only to all of its requests but the one for adapter_config.json.
    note = "Set HF_HUB_OFFLINE=1: transformers 5 otherwise asks the Hub for an adapter of a repository of this name."

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder.expanduser().resolve()
        self.name = name
        self.root = self.folder / f"models--{name.replace('/', '--')}"
        if self.folder.exists() and not self.folder.is_dir():
            raise DataError(f"--to {folder} is a file; give a folder")
        others = [path.name for path in self.folder.iterdir()] if self.folder.exists() else []
        other = next((each for each in sorted(others) if not _CACHE_ENTRY.fullmatch(each)), None)
        if other:
            raise DataError(
                f"--to {folder} holds other files ({other}); give a new folder, or one that publish has made"
            )

    def arguments(self, revision: str) -> str:
        """See `Repository`. `local_files_only` keeps transformers from asking the Hub for a repository of that name."""
        chosen = "" if revision == MAIN else f', revision="{revision}"'
        return f'{chosen}, cache_dir="{self.folder}", local_files_only=True'

    def origins(self) -> dict[str, dict[str, Any] | None]:
        """See `Repository`."""
        refs = self.root / "refs"
        found: dict[str, dict[str, Any] | None] = {}
        for path in sorted(refs.iterdir()) if refs.is_dir() else []:
            if path.is_file() and not path.name.startswith("."):
                try:
                    found[path.name] = read_object(self.root / "snapshots" / path.read_text() / ORIGIN)
                except DataError:
                    found[path.name] = None
        return found

    def holds(self, revision: str, folder: Path) -> bool:
        """See `Repository`."""
        snapshot, ref = _contents(folder)[1], self.root / "refs" / revision
        return ref.is_file() and ref.read_text() == snapshot and (self.root / "snapshots" / snapshot).is_dir()

    def write(self, revision: str, folder: Path) -> bool:
        """See `Repository`. Contents come first, the branch last: an interrupted call leaves branches as they were."""
        contents, snapshot = _contents(folder)
        target, ref = self.root / "snapshots" / snapshot, self.root / "refs" / revision
        if self.holds(revision, folder):
            return False
        for name, digest in contents.items():
            if not (self.root / "blobs" / digest).exists():
                place(folder / name, self.root / "blobs" / digest)
        if not target.is_dir():
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = temporary_name(target)
            temporary.mkdir()
            try:
                for name, digest in contents.items():
                    os.symlink(os.path.join("..", "..", "blobs", digest), temporary / name)
                os.replace(temporary, target)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        write_text(ref, snapshot)
        return True


def _contents(folder: Path) -> tuple[dict[str, str], str]:
    """File name -> sha256, and the snapshot's id: 40 hexadecimal digits, as of the git commits on the Hub."""
    contents = {path.name: sha256_file(path) for path in sorted(folder.iterdir())}
    listing = "".join(f"{digest}  {name}\n" for name, digest in contents.items())
    return contents, hashlib.sha256(listing.encode()).hexdigest()[:40]
