"""Each invalid input in the list gives one line and exit code 2; docs/bad_input.md shows all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bad_input import CASES, Case, Outcome, page, run
from tests.conftest import ROOT
from tests.runs import prepare_toy

SEEN: dict[str, Outcome] = {}
"""Outcomes of the tests before; the page test reuses them."""


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_toy(tmp_path_factory.mktemp("toy"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_is_one_line_before_anything_is_done(case: Case, toy: Path, tmp_path: Path) -> None:
    found = SEEN[case.name] = run(case, toy, tmp_path / "case")
    assert found.code == 2
    assert len(found.lines) == 1, found.lines
    assert case.message in found.lines[0]
    assert not found.wrote


def test_the_page_shows_what_is_said(toy: Path, tmp_path: Path) -> None:
    file = ROOT / "docs" / "bad_input.md"
    assert len({case.name for case in CASES}) == len(CASES) >= 25
    outcomes = {case.name: SEEN.get(case.name) or run(case, toy, tmp_path / case.name) for case in CASES}
    assert file.read_text() == page(outcomes), "write it again: python -m tests.bad_input > docs/bad_input.md"
