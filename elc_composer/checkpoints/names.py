"""How checkpoints are named: `ba<n>-rank0.pt` or, sharded, `ep<m>-ba<n>/`; and, by Composer, `ep<m>-ba<n>-rank0.pt`."""

from __future__ import annotations

import re

FILENAME = "ba{batch}-rank{rank}.pt"
"""What a run's own checkpoints are called, in Composer's format language."""

SHARDED_FOLDER = "ep{epoch}-ba{batch}"
"""What a sharded one's folder is called, in Composer's format language."""

_FULL = re.compile(r"(?:^|/)(?:ep\d+-)?ba(\d+)-rank0\.pt$")
_SHARDED = re.compile(r"(?:^|/)ep\d+-ba(\d+)(?:/\.metadata)?/?$")


def step_of(path: str) -> int | None:
    """The optimizer step that a checkpoint was taken after, by its name; None for what is not named like one."""
    match = _FULL.search(path) or _SHARDED.search(path)
    return int(match.group(1)) if match else None
