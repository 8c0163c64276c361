"""Phrases with their number, random draws, and the word combinations that are held out for minimal pairs."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from streaming_prep.toy import lexicon as lex
from streaming_prep.toy.lexicon import Noun, Verb

T = TypeVar("T")
Words = tuple[str, ...]

HELD_OUT_SHARE = 0.2


class Draw:
    """Seeded choices from `random.Random.random` alone: only its sequence is the same in all Python versions."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    def one(self, options: Sequence[T]) -> T:
        """One of the options, each equally likely."""
        return options[int(self._random.random() * len(options))]

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self._random.random() < probability

    def between(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int(self._random.random() * (high - low + 1))

    def weighted(self, options: Sequence[tuple[T, float]]) -> T:
        """One of the options by weight."""
        point = self._random.random() * sum(weight for _, weight in options)
        for option, weight in options:
            point -= weight
            if point < 0:
                return option
        return options[-1][0]

    def some(self, options: Sequence[T], count: int) -> list[T]:
        """`count` different options in drawn order."""
        left = list(options)
        return [left.pop(int(self._random.random() * len(left))) for _ in range(count)]


class HeldOut:
    """Combinations that only minimal pairs use: (subject, verb) and (adjective, noun), about a fifth of each.

    Every noun has some of its own in each class of verbs and among its adjectives, so each paradigm finds some. Words
    of a couple (king, queen) are held out together, so that a minimal pair's mirror image is held out too.
    """

    def __init__(self, seed: int) -> None:
        draw = Draw(f"held out {seed}")
        self._held: set[tuple[str, str]] = set()
        units = [masculine for masculine, _ in lex.COUPLES] + [*lex.PERSONS, *lex.ANIMALS]
        for noun in units:
            for verbs in (lex.INTRANSITIVE, lex.SOCIAL, lex.HANDLING, lex.COGNITION):
                self._hold(draw, noun, [verb.base for verb in verbs])
        for noun in (*units, *lex.OBJECTS, *lex.PLACES):
            self._hold(draw, noun, lex.adjectives_of(noun))

    def _hold(self, draw: Draw, noun: Noun, words: Sequence[str]) -> None:
        for word in draw.some(words, max(1, round(HELD_OUT_SHARE * len(words)))):
            self._held.add((noun.unit, word))

    def holds(self, noun: Noun, word: str) -> bool:
        """True if the noun with this verb (base form) or adjective is held out from the corpus."""
        return (noun.unit, word) in self._held


@dataclass(frozen=True)
class NounPhrase:
    """Determiner, perhaps an adjective, noun."""

    noun: Noun
    plural: bool
    determiner: tuple[str, str] = lex.THE
    adjective: str | None = None

    @property
    def words(self) -> Words:
        """The phrase as words."""
        middle = (self.adjective,) if self.adjective else ()
        return (self.determiner[self.plural], *middle, self.noun.form(self.plural))

    def flipped(self) -> NounPhrase:
        """The same phrase in the other number."""
        return replace(self, plural=not self.plural)


@dataclass(frozen=True)
class Modifier:
    """A modifier between a subject and its verb: `near NP`, `that NP verb` or `that verb NP`."""

    kind: str  # "prepositional", "object_relative", "subject_relative"
    phrase: NounPhrase
    preposition: str = ""
    verb: Verb | None = None

    def words(self, head_plural: bool) -> Words:
        """The modifier of a head in the given number."""
        if self.verb is None:
            return (self.preposition, *self.phrase.words)
        if self.kind == "object_relative":
            return ("that", *self.phrase.words, self.verb.present(self.phrase.plural))
        return ("that", self.verb.present(head_plural), *self.phrase.words)


@dataclass(frozen=True)
class Subject:
    """A noun phrase with its modifier."""

    head: NounPhrase
    modifier: Modifier | None = None

    @property
    def words(self) -> Words:
        """The subject as words."""
        return self.head.words + (self.modifier.words(self.head.plural) if self.modifier else ())

    def flipped(self) -> Subject:
        """The same subject with singular and plural exchanged."""
        modifier = self.modifier and replace(self.modifier, phrase=self.modifier.phrase.flipped())
        return Subject(self.head.flipped(), modifier)


@dataclass(frozen=True)
class Predicate:
    """A predicate in both numbers; where they differ, they differ in one word."""

    singular: Words
    plural: Words

    def words(self, plural: bool) -> Words:
        """The predicate that agrees with a subject in the given number."""
        return self.plural if plural else self.singular
