"""Private names of libraries that the package relies on: only those that docs/architecture.md explains."""

from __future__ import annotations

import re

from tests.conftest import ROOT
from tests.library_internals import private_names


def documented() -> dict[str, set[str]]:
    """Private names by class, from the table in docs/architecture.md."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    table = text[text.index("| class | private names |") :]
    found: dict[str, set[str]] = {}
    for row in re.findall(r"^\|([^|]+)\|([^|]+)\|", table, flags=re.MULTILINE):
        for cls in re.findall(r"`(\w+)`", row[0]):
            found.setdefault(cls, set()).update(re.findall(r"`(_\w+)`", row[1]))
    return found


def test_every_private_name_is_documented() -> None:
    known = documented()
    for place, names in private_names().items():
        missing = names - known.get(place.rpartition(".")[2], set())
        assert not missing, (
            f"{place} relies on {', '.join(sorted(missing))}; use a public way or explain it in the docs"
        )


def test_every_documented_name_is_in_use() -> None:
    used: dict[str, set[str]] = {"RunDescription": {"_run_id"}}
    for place, names in private_names().items():
        used.setdefault(place.rpartition(".")[2], set()).update(names)
    for cls, names in documented().items():
        shared = {"ElcModel": {"_tied_weights_keys"}, "ElcForMaskedLM": {"_init_weights"}}.get(cls, set())
        assert not names - used.get(cls, set()) - shared, f"{cls}: {names - used.get(cls, set())} is not used any more"
