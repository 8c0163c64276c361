"""The cleaners and their reference implementation against the output of the published cleaners."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.streaming_prep import cleaning_reference
from tests.streaming_prep.cleaning_cases import CORPORA, FOLDERS, clean, edge_cases, golden_file

pytestmark = pytest.mark.golden


@pytest.mark.parametrize("corpus", CORPORA)
@pytest.mark.parametrize("folder", FOLDERS)
def test_files_are_cleaned_as_published(
    golden_dir: Path, compared: Callable[[str, int], None], folder: str, corpus: str
) -> None:
    case = golden_file(golden_dir, folder, corpus)
    # Joined: a line break that encoding repair makes inside a line ends up as one of the file.
    assert "\n".join(clean(corpus, *case.raw)).split("\n") == case.clean
    compared(f"raw lines of {folder}", len(case.raw))
    compared(f"cleaned lines of {folder}", len(case.clean))


@pytest.mark.parametrize("corpus", CORPORA)
def test_edge_cases_are_cleaned_as_published(
    golden_dir: Path, compared: Callable[[str, int], None], corpus: str
) -> None:
    cases = edge_cases(golden_dir, corpus)
    for case in cases:
        assert "\n".join(clean(corpus, *case.raw)) == "\n".join(case.clean), case.raw
    compared("cases of clean_edge.json", len(cases))


@pytest.mark.parametrize("corpus", CORPORA)
def test_the_reference_implementation_agrees_with_the_published_cleaners(golden_dir: Path, corpus: str) -> None:
    for folder in FOLDERS:
        case = golden_file(golden_dir, folder, corpus)
        assert "\n".join(cleaning_reference.clean(corpus, case.raw)).split("\n") == case.clean
    for case in edge_cases(golden_dir, corpus):
        assert "\n".join(cleaning_reference.clean(corpus, case.raw)) == "\n".join(case.clean), case.raw
