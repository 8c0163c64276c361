"""Cleaners of the BabyLM corpora, after those that were used for the published models; rules in docs/cleaning.md."""

from __future__ import annotations

import difflib
from pathlib import Path

from elc_composer.common.errors import DataError
from streaming_prep.cleaners import books, encyclopedia, speech
from streaming_prep.cleaners.base import Boundary, Cleaner, after_blank, always, by_line, without_repeats

__all__ = ["ALIASES", "CLEANERS", "Boundary", "Cleaner", "get_cleaner"]


def _unchanged(line: str) -> str:
    return line if line.strip() else ""


CLEANERS: dict[str, Cleaner] = {
    cleaner.name: cleaner
    for cleaner in (
        without_repeats("aochildes", speech.transcript),
        without_repeats("bnc_spoken", speech.transcript),
        by_line("cbt", books.treebank),
        Cleaner("children_stories", books.stories, Boundary.BLANK_LINE, after_blank),
        Cleaner("gutenberg", books.paragraphs, Boundary.BLANK_LINE, after_blank),
        without_repeats("open_subtitles", speech.subtitle),
        without_repeats("qed", speech.lecture),
        Cleaner("simple_wikipedia", encyclopedia.simple_articles, Boundary.BLANK_LINE, after_blank),
        without_repeats("switchboard", speech.telephone),
        Cleaner("wikipedia", encyclopedia.articles, Boundary.LINE, always),
        by_line("none", _unchanged),
    )
}
"""All cleaners by the name of their corpus in the 2023 layout, in the published order, then `none`."""

ALIASES = {"childes": "aochildes", "simple_wiki": "simple_wikipedia"}
"""Names of corpora in the 2024 and 2025 layouts that differ from the 2023 layout's."""


def get_cleaner(name: str, file: str | Path | None = None) -> Cleaner:
    """The cleaner of that name, in any year's layout; `auto` goes by the stem of `file` (`childes.train`: childes).

    Raises `DataError` naming the nearest known name.
    """
    wanted = name
    if name == "auto":
        if file is None:
            raise DataError("cleaner 'auto' goes by a file's name and there is no file; name a cleaner")
        wanted = Path(file).name.split(".")[0]
    wanted = ALIASES.get(wanted, wanted)
    if wanted in CLEANERS:
        return CLEANERS[wanted]
    nearest = difflib.get_close_matches(wanted, [*CLEANERS, *ALIASES], n=1, cutoff=0.0)[0]
    subject = f"no cleaner goes with the file {file}" if name == "auto" else f"no cleaner is called {name!r}"
    raise DataError(f"{subject} (nearest: {nearest}; `none` leaves the text as it is)")
