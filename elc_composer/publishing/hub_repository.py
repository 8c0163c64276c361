"""A repository on the Hugging Face Hub; the token is the one of huggingface_hub's own login."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import HfApi
from huggingface_hub.errors import EntryNotFoundError, LocalTokenNotFoundError, RepositoryNotFoundError

from elc_composer.common.errors import DataError, one_line
from elc_composer.publishing.repository import MAIN, ORIGIN

Result = TypeVar("Result")
LOGIN = "run `hf auth login` (or `huggingface-cli login`), or set HF_TOKEN to a token with write access"


class HubRepository:
    """A model repository on the Hub.

    Args:
        name: `user/name`.
        private: whether a repository that does not exist yet is made private.
        api: by default huggingface_hub's, with its stored login.
    """

    note = ""

    def __init__(self, name: str, private: bool = False, api: Any = None) -> None:
        self.name = name
        self.private = private
        self.api = api or HfApi()

    def arguments(self, revision: str) -> str:
        """See `Repository`."""
        return "" if revision == MAIN else f', revision="{revision}"'

    def check_login(self) -> None:
        """Ask the Hub who is logged in.

        Raises:
            DataError: nobody is, or the Hub cannot be reached.
        """
        try:
            self.api.whoami()
        except LocalTokenNotFoundError:
            raise DataError(f"hf://{self.name}: nobody is logged in to the Hub; {LOGIN}") from None
        except Exception as error:  # requests' or httpx's, by version
            raise self._failed(error) from None

    def origins(self) -> dict[str, dict[str, Any] | None]:
        """See `Repository`; empty if the repository does not exist."""
        try:
            refs = self.api.list_repo_refs(self.name)
        except RepositoryNotFoundError:
            return {}
        except Exception as error:
            raise self._failed(error) from None
        return {branch.name: self._origin(branch.name) for branch in refs.branches}

    def holds(self, revision: str, folder: Path) -> bool:
        """See `Repository`. False: only the Hub itself can compare, and does so during the upload."""
        return False

    def write(self, revision: str, folder: Path) -> bool:
        """See `Repository`. The Hub makes no commit if every file is there already."""
        self._try(lambda: self.api.create_repo(self.name, private=self.private, exist_ok=True))
        if revision != MAIN:
            self._try(lambda: self.api.create_branch(self.name, branch=revision, exist_ok=True))
        before = self._head(revision)
        self._try(
            lambda: self.api.upload_folder(
                repo_id=self.name,
                folder_path=str(folder),
                revision=revision,
                commit_message=f"Publish {revision}",
            )
        )
        return self._head(revision) != before

    def _head(self, revision: str) -> str | None:
        refs = self._try(lambda: self.api.list_repo_refs(self.name))
        return next((branch.target_commit for branch in refs.branches if branch.name == revision), None)

    def _origin(self, revision: str) -> dict[str, Any] | None:
        try:
            path = self.api.hf_hub_download(self.name, ORIGIN, revision=revision)
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except (EntryNotFoundError, ValueError):
            return None
        except Exception as error:
            raise self._failed(error) from None
        return content if isinstance(content, dict) else None

    def _try(self, call: Callable[[], Result]) -> Result:
        try:
            return call()
        except Exception as error:
            raise self._failed(error) from None

    def _failed(self, error: Exception) -> DataError:
        return DataError(f"hf://{self.name}: {one_line(error)[:300]}; rerun the same command to go on, or {LOGIN}")
