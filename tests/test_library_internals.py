"""Private names of libraries that the package relies on: only those that docs/architecture.md explains."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.library_internals import other_names, private_names

MOST = 48
"""Private names in use. Lower it when one goes; one that comes needs a public way first."""


def documented() -> dict[str, set[str]]:
    """Private names by class, from the table in docs/architecture.md."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    table = text[text.index("| class | private names |") : text.index("| private names | of |")]
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


def others() -> list[tuple[list[str], list[str]]]:
    """Rows of the second table: private names, and the modules that hold them."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    table = text[text.index("| private names | of |") :]
    rows = re.findall(r"^\|([^|]+)\|([^|]+)\|", table, flags=re.MULTILINE)
    cells = [(re.findall(r"`(_\w+)`", names), re.findall(r"`([\w.]+)`", modules)) for names, modules in rows]
    return [(names, modules) for names, modules in cells if names]


def test_names_outside_subclasses_are_documented_and_in_use() -> None:
    assert {name for names, _ in others() for name in names} == set(other_names()) | {"_run_id"}


@pytest.mark.parametrize(
    ("name", "module"),
    [(name, modules[min(place, len(modules) - 1)]) for names, modules in others() for place, name in enumerate(names)],
)
def test_the_library_still_has_the_name(name: str, module: str) -> None:
    """As an attribute of the module, a module in it, or an attribute that its source sets on objects."""
    holder = importlib.import_module(module)
    if hasattr(holder, name):
        return
    file = Path(holder.__file__ or "")
    assert file.with_name(name).is_dir() or re.search(rf"\b{name}\b", file.read_text()), f"{module} has no {name}"


def test_the_number_of_private_names_only_shrinks() -> None:
    names = set(other_names()).union(*private_names().values())
    assert len(names) <= MOST, f"{len(names)} private names of libraries, {MOST} before: {', '.join(sorted(names))}"
    assert len(names) == MOST, f"only {len(names)} private names are left; lower MOST"


def test_the_named_tests_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    for file, _, function in re.findall(r"`(tests/[\w/]+\.py)(::(\w+))?`", text):
        assert f"def {function}(" in (ROOT / file).read_text() if function else (ROOT / file).is_file(), function
