"""Random phrases of the toy grammar that keep held-out combinations apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streaming_prep.toy import lexicon as lex
from streaming_prep.toy.lexicon import Noun, Verb
from streaming_prep.toy.phrases import Draw, HeldOut, Modifier, NounPhrase, Predicate, Subject, Words

FINITE = ("present", "perfect", "negated", "modal", "past")
AGREEING = ("present", "perfect", "negated")


@dataclass(frozen=True)
class Sentence:
    """Lower-case words with commas as words of their own, and the mark that ends it."""

    words: Words
    mark: str = "."

    def __str__(self) -> str:
        text = " ".join(self.words).replace(" ,", ",")
        return text[:1].upper() + text[1:] + self.mark


class Grammar:
    """Draws phrases and sentences. With `held`, (noun, verb) is a held-out combination, as never in the corpus."""

    def __init__(self, draw: Draw, held_out: HeldOut) -> None:
        self.draw = draw
        self.held_out = held_out

    def subject_and_verb(
        self, nouns: Sequence[Noun], verbs: Sequence[Verb], held: bool = False, but: Noun | None = None
    ) -> tuple[Noun, Verb]:
        """A noun (not the unit of `but`) and a verb whose combination is held out, or is not."""
        while True:
            noun, verb = self.draw.one(nouns), self.draw.one(verbs)
            if self.held_out.holds(noun, verb.base) == held and (but is None or noun.unit != but.unit):
                return noun, verb

    def adjective(self, noun: Noun, held: bool = False) -> str:
        """An adjective whose combination with the noun is held out, or is not."""
        return self.draw.one([a for a in lex.adjectives_of(noun) if self.held_out.holds(noun, a) == held])

    def phrase(self, noun: Noun, plural: bool | None = None, plain: bool = False) -> NounPhrase:
        """A noun phrase around the noun; the number is drawn where it is not given; `plain` takes no adjective."""
        determiner = self.draw.weighted(
            [(lex.THE, 0.4), (self.draw.one(lex.DEMONSTRATIVES), 0.5), (self.draw.one(lex.QUANTIFIERS), 0.1)]
        )
        adjective = None if plain or not self.draw.chance(0.35) else self.adjective(noun)
        return NounPhrase(noun, self.draw.chance(0.5) if plural is None else plural, determiner, adjective)

    def modifier(self, kind: str, head: Noun, plural: bool | None = None) -> Modifier:
        """A modifier for the head, its own noun phrase in the given number."""
        if kind == "prepositional":
            return Modifier(
                kind, self.phrase(self.other(head), plural, plain=True), preposition=self.draw.one(lex.PREPOSITIONS)
            )
        if kind == "object_relative":
            noun, verb = self.subject_and_verb(lex.ANIMATES, lex.SOCIAL, but=head)
            return Modifier(kind, self.phrase(noun, plural, plain=True), verb=verb)
        _, verb = self.subject_and_verb([head], lex.SOCIAL)
        return Modifier(kind, self.phrase(self.other(head), plural, plain=True), verb=verb)

    def other(self, noun: Noun, nouns: Sequence[Noun] = lex.ANIMATES) -> Noun:
        """Another noun than this one or its counterpart."""
        while (other := self.draw.one(nouns)).unit == noun.unit:
            pass
        return other

    def subject(self, noun: Noun, plural: bool | None = None, modified: float = 0.55) -> Subject:
        """A subject headed by the noun, with a modifier by the given chance."""
        head = self.phrase(noun, plural)
        if not self.draw.chance(modified):
            return Subject(head)
        kind = self.draw.weighted([("prepositional", 0.5), ("object_relative", 0.25), ("subject_relative", 0.25)])
        return Subject(head, self.modifier(kind, noun))

    def complement(self, verb: Verb, subject: Noun) -> Words:
        """The words after the verb: its object if it takes one, else an adverb, a place or nothing."""
        if verb in lex.SOCIAL:
            return self.phrase(self.other(subject)).words
        if verb in lex.HANDLING:
            return self.phrase(self.draw.one(lex.OBJECTS)).words
        ending = self.draw.weighted([("place", 0.45), ("adverb", 0.3), ("nothing", 0.25)])
        if ending == "place":
            return (self.draw.one(lex.PREPOSITIONS[:3]), *self.phrase(self.draw.one(lex.PLACES)).words)
        return self.draw.one(lex.ADVERBS) if ending == "adverb" else ()

    def predicate(self, verb: Verb, rest: Words, forms: Sequence[str] = FINITE) -> Predicate:
        """The verb in one of the given forms, with the words after it."""
        form = self.draw.one(forms)
        if form == "present":
            return Predicate((verb.third, *rest), (verb.base, *rest))
        if form == "perfect":
            words = (*(("not",) if self.draw.chance(0.3) else ()), verb.participle, *rest)
            return Predicate(("has", *words), ("have", *words))
        if form == "negated":
            return Predicate(("does", "not", verb.base, *rest), ("do", "not", verb.base, *rest))
        if form == "modal":
            words = (self.draw.one(lex.MODALS), *(("not",) if self.draw.chance(0.3) else ()), verb.base, *rest)
            return Predicate(words, words)
        return Predicate((verb.past, *rest), (verb.past, *rest))

    def copula(self, noun: Noun, held: bool = False) -> Predicate:
        """`is/are/was/were` with an adjective."""
        adjective = self.adjective(noun, held)
        singular, plural = self.draw.one((("is", "are"), ("was", "were")))
        return Predicate((singular, adjective), (plural, adjective))
