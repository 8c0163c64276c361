"""Cleaners of the BabyLM corpora, by the published rules; docs/cleaning.md describes them."""

from __future__ import annotations

import difflib

from elc_composer.common.errors import DataError
from streaming_prep.cleaners import books, encyclopedia, speech
from streaming_prep.cleaners.base import Cleaner, by_line

__all__ = ["ALIASES", "CLEANERS", "Cleaner", "get_cleaner"]


def _unchanged(line: str) -> str:
    return line if line.strip() else ""


CLEANERS: dict[str, Cleaner] = {
    cleaner.name: cleaner
    for cleaner in (
        speech.with_all_blank_lines("aochildes", speech.transcript),
        speech.with_all_blank_lines("bnc_spoken", speech.transcript_without_marks),
        by_line("cbt", books.treebank),
        Cleaner("children_stories", books.stories, books.stories_may_cut),
        Cleaner("gutenberg", books.paragraphs, books.paragraphs_may_cut),
        speech.with_single_blank_lines("open_subtitles", speech.subtitle),
        speech.with_single_blank_lines("qed", speech.lecture),
        Cleaner("simple_wikipedia", encyclopedia.simple_articles, encyclopedia.simple_articles_may_cut),
        speech.across_blank_lines("switchboard", speech.telephone),
        Cleaner("wikipedia", encyclopedia.articles, encyclopedia.articles_may_cut),
        by_line("none", _unchanged),
    )
}
"""All cleaners by the name of their corpus in the 2023 layout, in the published order, then `none`."""

ALIASES = {"childes": "aochildes", "simple_wiki": "simple_wikipedia"}
"""Names of corpora in the 2024 and 2025 layouts that differ from the 2023 layout's."""


def get_cleaner(name: str) -> Cleaner:
    """Find the cleaner of a corpus by its name in any year's layout, such as `childes`.

    Raises:
        DataError: there is none; names the nearest.
    """
    wanted = ALIASES.get(name, name)
    if wanted in CLEANERS:
        return CLEANERS[wanted]
    nearest = difflib.get_close_matches(wanted, [*CLEANERS, *ALIASES], n=1, cutoff=0.0)[0]
    raise DataError(f"no cleaner is called {name!r} (nearest: {nearest}; `none` leaves the text as it is)")
