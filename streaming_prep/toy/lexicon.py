"""The words of the toy language: nouns with gender and number, verbs with their forms, adjectives, prepositions."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Noun:
    """A noun with both numbers. Combinations are held out for a `unit` (king and queen are one unit)."""

    singular: str
    plural: str
    kind: str  # "m" or "f" (persons of one gender), "person", "animal", "object", "place"
    unit: str

    def form(self, plural: bool) -> str:
        """The word in one number."""
        return self.plural if plural else self.singular

    def pronoun(self, plural: bool) -> str:
        """The subject pronoun for this noun; only if `has_pronoun` in that number."""
        return "they" if plural else {"m": "he", "f": "she", "animal": "it"}[self.kind]

    def reflexive(self, plural: bool) -> str:
        """The reflexive pronoun for this noun; only if `has_pronoun` in that number."""
        return "themselves" if plural else {"m": "himself", "f": "herself", "animal": "itself"}[self.kind]

    def has_pronoun(self, plural: bool) -> bool:
        """True if exactly one pronoun fits: not for the singular of a person of either gender."""
        return plural or self.kind in ("m", "f", "animal")

    @property
    def irregular(self) -> bool:
        """True if the plural is not the singular with -s or -es."""
        return self.plural not in (self.singular + "s", self.singular + "es")


@dataclass(frozen=True)
class Verb:
    """A verb with its forms, spelled out."""

    base: str
    third: str
    past: str
    participle: str

    def present(self, plural: bool) -> str:
        """The present-tense form that agrees with a third-person subject."""
        return self.base if plural else self.third


def _nouns(kind: str, text: str) -> tuple[Noun, ...]:
    """Nouns from words, `singular/plural` where the plural is not plain -s."""
    nouns = []
    for entry in text.split():
        singular, _, plural = entry.partition("/")
        nouns.append(Noun(singular, plural or singular + "s", kind, unit=singular))
    return tuple(nouns)


def _verbs(text: str) -> tuple[Verb, ...]:
    """Verbs from words, `base/third/past/participle` where they are not plain -s and -ed."""
    verbs = []
    for entry in text.split():
        parts = entry.split("/")
        verbs.append(Verb(*parts) if len(parts) == 4 else Verb(entry, entry + "s", entry + "ed", entry + "ed"))
    return tuple(verbs)


_COUPLES = """
king:queen boy:girl father:mother brother:sister uncle:aunt prince:princess/princesses
actor:actress/actresses waiter:waitress/waitresses man/men:woman/women
"""

COUPLES: tuple[tuple[Noun, Noun], ...] = tuple(
    (Noun(m.singular, m.plural, "m", unit=m.singular), Noun(f.singular, f.plural, "f", unit=m.singular))
    for entry in _COUPLES.split()
    for m, f in [(_nouns("m", entry.split(":")[0])[0], _nouns("f", entry.split(":")[1])[0])]
)
"""Persons of one gender, each with its counterpart."""

PERSONS = _nouns("person", "teacher doctor farmer painter child/children student pilot thief/thieves")
ANIMALS = _nouns("animal", "cat dog mouse/mice goose/geese horse bird wolf/wolves rabbit")
OBJECTS = _nouns("object", "cup book letter knife/knives box/boxes lamp loaf/loaves key")
PLACES = _nouns("place", "lake tree house river garden bridge tower hill")

GENDERED = tuple(noun for couple in COUPLES for noun in couple)
HUMANS = GENDERED + PERSONS
ANIMATES = HUMANS + ANIMALS

INTRANSITIVE = _verbs(
    """sleep/sleeps/slept/slept walk swim/swims/swam/swum sing/sings/sang/sung dance/dances/danced/danced
    smile/smiles/smiled/smiled laugh wait work fall/falls/fell/fallen jump play"""
)
SOCIAL = _verbs(
    """help see/sees/saw/seen follow forgive/forgives/forgave/forgiven draw/draws/drew/drawn like/likes/liked/liked
    praise/praises/praised/praised trust blame/blames/blamed/blamed know/knows/knew/known"""
)
"""Transitive verbs between animates; each can be reflexive."""

HANDLING = _verbs(
    """take/takes/took/taken buy/buys/bought/bought carry/carries/carried/carried find/finds/found/found
    lift bring/brings/brought/brought hold/holds/held/held fix/fixes/fixed/fixed"""
)
"""Transitive verbs that never go without an object."""

COGNITION = _verbs("remember forget/forgets/forgot/forgotten notice/notices/noticed/noticed hear/hears/heard/heard")
"""Verbs with a clause after `that` or `what`."""

TEMPERS = ("old", "young", "tall", "happy", "sad", "kind", "quiet", "brave", "clever", "hungry")
LOOKS = ("old", "new", "red", "green", "heavy", "lovely")
PREPOSITIONS = ("near", "behind", "beside", "with")
MODALS = ("can", "will", "must")
ADVERBS = (("today",), ("again",), ("here",), ("there",))
LEADS = ("surely", "perhaps", "now", "then")

THE = ("the", "the")
DEMONSTRATIVES = (("this", "these"), ("that", "those"))
QUANTIFIERS = (("every", "many"), ("one", "two"))


def adjectives_of(noun: Noun) -> tuple[str, ...]:
    """The adjectives that go with a noun."""
    return LOOKS if noun.kind in ("object", "place") else TEMPERS
