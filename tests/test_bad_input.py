"""Each bad input in the list gets one clear line and exit code 2; docs/bad_input.md shows them all."""

from __future__ import annotations

import pytest

from tests.bad_input import CASES, Case, Outcome, page, run_all
from tests.conftest import ROOT
from tests.runs import prepare_toy


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    folder = tmp_path_factory.mktemp("bad")
    return run_all(prepare_toy(folder / "toy"), folder / "cases")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_is_one_line_before_anything_is_done(case: Case, outcomes: dict[str, Outcome]) -> None:
    found = outcomes[case.name]
    assert found.code == 2
    assert len(found.lines) == 1, found.lines
    assert case.message in found.lines[0]
    assert not found.wrote


def test_the_page_shows_what_is_said(outcomes: dict[str, Outcome]) -> None:
    file = ROOT / "docs" / "bad_input.md"
    assert len({case.name for case in CASES}) == len(CASES) >= 25
    assert file.read_text() == page(outcomes), "write it anew: python -m tests.bad_input > docs/bad_input.md"
