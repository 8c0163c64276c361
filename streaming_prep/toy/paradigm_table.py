"""The paradigms of the toy language, and their minimal pairs in BLiMP's format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from elc_composer.common.errors import DataError
from streaming_prep.toy.paradigms import Couple, PairGrammar, Turn


@dataclass(frozen=True)
class Paradigm:
    """A kind of minimal pair; the names of the fields are those of BLiMP."""

    uid: str
    linguistics_term: str
    field: str
    couple: Callable[[PairGrammar], Couple]
    """Draws a pair and its mirror image."""


PARADIGMS = tuple(
    Paradigm(*row)
    for row in (
        ("regular_subject_verb_agreement", "subject_verb_agreement", "morphology", PairGrammar.regular),
        ("irregular_subject_verb_agreement", "subject_verb_agreement", "morphology", PairGrammar.irregular),
        ("distractor_prepositional", "subject_verb_agreement", "morphology", PairGrammar.prepositional_distractor),
        ("distractor_relative_clause", "subject_verb_agreement", "morphology", PairGrammar.relative_distractor),
        ("coordination_agreement", "subject_verb_agreement", "morphology", PairGrammar.coordination_pair),
        ("question_agreement", "subject_verb_agreement", "morphology", PairGrammar.question_pair),
        ("determiner_noun", "determiner_noun_agreement", "morphology", PairGrammar.determiner),
        ("determiner_adjective_noun", "determiner_noun_agreement", "morphology", PairGrammar.determiner_with_adjective),
        ("anaphor_gender_distractor", "anaphor_agreement", "morphology", PairGrammar.anaphor_gender),
        ("anaphor_number_distractor", "anaphor_agreement", "morphology", PairGrammar.anaphor_number),
        ("auxiliary_form", "irregular_forms", "morphology", PairGrammar.auxiliary),
        ("wh_vs_that", "filler_gap_dependency", "syntax", PairGrammar.filler_gap),
        ("npi_scope", "npi_licensing", "semantics", PairGrammar.polarity_scope),
        ("dialogue_pronoun", "pronoun_agreement", "discourse", PairGrammar.dialogue_pronoun),
    )
)


def text_of(turn: Turn) -> str:
    """The turn as a line of prose."""
    return " ".join(str(sentence) for sentence in turn)


def minimal_pairs(paradigm: Paradigm, grammar: PairGrammar, count: int) -> list[dict[str, str | int]]:
    """`count` different pairs (an even number) as BLiMP's JSON objects, each followed by its mirror image.

    Raises:
        DataError: the paradigm has fewer pairs.
    """
    rows: list[dict[str, str | int]] = []
    seen: set[str] = set()
    for _ in range(100 * count):
        if len(rows) >= count:
            return rows
        couple = [(text_of(good), text_of(bad)) for good, bad in paradigm.couple(grammar)]
        if not seen.isdisjoint(good for good, _ in couple):
            continue
        for good, bad in couple:
            seen.add(good)
            rows.append(
                {
                    "sentence_good": good,
                    "sentence_bad": bad,
                    "field": paradigm.field,
                    "linguistics_term": paradigm.linguistics_term,
                    "UID": paradigm.uid,
                    "pair_id": len(rows),
                }
            )
    raise DataError(f"the toy language has fewer than {count} pairs of {paradigm.uid}; ask for fewer")
