"""Names of checkpoints: `ba<n>-rank0.pt`, sharded `ep<m>-ba<n>/`, and Composer's own `ep<m>-ba<n>-rank0.pt`."""

from __future__ import annotations

import re

FILENAME = "ba{batch}-rank{rank}.pt"
"""File name of a run's checkpoints, with Composer's placeholders."""

SHARDED_FOLDER = "ep{epoch}-ba{batch}"
"""Folder name of a sharded checkpoint, with Composer's placeholders."""

_FULL = re.compile(r"(?:^|/)(?:ep\d+-)?ba(\d+)-rank0\.pt$")
_SHARDED = re.compile(r"(?:^|/)ep\d+-ba(\d+)(?:/\.metadata)?/?$")


def step_of(path: str) -> int | None:
    """The optimizer step after which a checkpoint was saved, from its name; None if the name is not a checkpoint's."""
    match = _FULL.search(path) or _SHARDED.search(path)
    return int(match.group(1)) if match else None
