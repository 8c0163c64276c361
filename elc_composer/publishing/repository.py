"""What a place for revisions of a model must offer, and the file that tells whose revision it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

MAIN = "main"
ORIGIN = "published_run.json"
"""In every revision: the run, when it started, the branch, and the checkpoint."""


class Repository(Protocol):
    """A repository of revisions: a local one or one on the Hub."""

    name: str
    """`user/name`, as from_pretrained takes it."""
    note: str
    """What a user must know to load from it; may be empty."""

    def arguments(self, revision: str) -> str:
        """Arguments of from_pretrained after the name, such as `, revision="ba100"`, as Python text."""

    def origins(self) -> dict[str, dict[str, Any] | None]:
        """Branch -> content of its origin file; None for a branch without one."""

    def holds(self, revision: str, folder: Path) -> bool:
        """Whether a branch is known to hold exactly the files of `folder`."""

    def write(self, revision: str, folder: Path) -> bool:
        """Make a branch hold the files of `folder`; whether that changed anything."""
