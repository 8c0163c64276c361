"""Minimal pairs of the toy language, one method a paradigm, always with the mirror image.

A paradigm's method draws a couple of pairs: the second turns round the number (or gender, or gap) of the first, so the
word that is right in one is wrong in the other. No preference for single words can then score above one half.
"""

from __future__ import annotations

from dataclasses import replace

from streaming_prep.toy import lexicon as lex
from streaming_prep.toy.grammar import AGREEING, Sentence
from streaming_prep.toy.lexicon import Noun
from streaming_prep.toy.phrases import NounPhrase, Predicate, Subject, Words
from streaming_prep.toy.sentence_grammar import NO, SentenceGrammar

Turn = list[Sentence]
Couple = list[tuple[Turn, Turn]]
"""Two pairs, each (good, bad)."""


def _one(*words: str, mark: str = ".") -> Turn:
    return [Sentence(tuple(words), mark)]


class PairGrammar(SentenceGrammar):
    """Draws minimal pairs whose subject and verb (or adjective and noun) are held out."""

    def _agreement(self, subject: Subject, predicate: Predicate) -> Couple:
        couple = []
        for turned in (subject, subject.flipped()):
            plural = turned.head.plural
            good, bad = (turned.words + predicate.words(number) for number in (plural, not plural))
            couple.append((_one(*good), _one(*bad)))
        return couple

    def _finite(self, nouns: tuple[Noun, ...]) -> tuple[Noun, Predicate]:
        """A noun and a predicate that shows number, held out together."""
        if self.draw.chance(0.2):
            noun = self.draw.one(nouns)
            return noun, self.copula(noun, held=True)
        noun, verb = self.subject_and_verb(nouns, lex.INTRANSITIVE + lex.SOCIAL, held=True)
        return noun, self.predicate(verb, self.complement(verb, noun), AGREEING)

    def _simple(self, irregular: bool) -> Couple:
        noun, predicate = self._finite(tuple(noun for noun in lex.ANIMATES if noun.irregular == irregular))
        return self._agreement(Subject(replace(self.phrase(noun), determiner=lex.THE)), predicate)

    def regular(self) -> Couple:
        """`The king sleeps/*sleep.`"""
        return self._simple(irregular=False)

    def irregular(self) -> Couple:
        """`The geese sleep/*sleeps.`"""
        return self._simple(irregular=True)

    def _distractor(self, kinds: tuple[str, ...]) -> Couple:
        noun, predicate = self._finite(lex.ANIMATES)
        head = NounPhrase(noun, self.draw.chance(0.5))
        return self._agreement(Subject(head, self.modifier(self.draw.one(kinds), noun, not head.plural)), predicate)

    def prepositional_distractor(self) -> Couple:
        """`The king near the queens sleeps/*sleep.`"""
        return self._distractor(("prepositional",))

    def relative_distractor(self) -> Couple:
        """`The king that the queens like sleeps/*sleep.`, `The kings that like the queen sleep/*sleeps.`"""
        return self._distractor(("object_relative", "subject_relative"))

    def coordination_pair(self) -> Couple:
        """`The king and the queen sleep/*sleeps.`, `The king near the queen sleeps/*sleep.`"""
        noun, verb = self.subject_and_verb(lex.ANIMATES, lex.INTRANSITIVE + lex.SOCIAL, held=True)
        predicate = self.predicate(verb, self.complement(verb, noun), AGREEING)
        other = NounPhrase(self.other(noun), False).words
        first = NounPhrase(noun, False).words
        couple = []
        for link, plural in (("and", True), (self.draw.one(lex.PREPOSITIONS), False)):
            good, bad = ((*first, link, *other, *predicate.words(number)) for number in (plural, not plural))
            couple.append((_one(*good), _one(*bad)))
        return couple

    def question_pair(self) -> Couple:
        """`Does/*Do the king sleep?`"""
        noun, verb = self.subject_and_verb(lex.ANIMATES, lex.INTRANSITIVE + lex.SOCIAL, held=True)
        rest = self.complement(verb, noun)
        head = replace(self.phrase(noun), determiner=lex.THE)
        (singular, plural), form = self.draw.one(
            ((("does", "do"), verb.base), (("has", "have"), verb.participle)),
        )
        couple = []
        for phrase in (head, head.flipped()):
            good, bad = (plural, singular) if phrase.plural else (singular, plural)
            words = (*phrase.words, form, *rest)
            couple.append((_one(good, *words, mark="?"), _one(bad, *words, mark="?")))
        return couple

    def _determiner(self, adjective: bool) -> Couple:
        noun, verb = self.subject_and_verb(lex.HUMANS, lex.SOCIAL + lex.HANDLING, held=True)
        object_noun = self.draw.one(lex.OBJECTS) if verb in lex.HANDLING else self.other(noun)
        subject = replace(self.phrase(noun), determiner=lex.THE)
        opening = subject.words + self.predicate(verb, ()).words(subject.plural)
        kind = self.draw.one(lex.DEMONSTRATIVES)
        middle = (self.adjective(object_noun, held=True),) if adjective else ()
        couple = []
        for plural in (False, True):
            good, bad = ((*opening, kind[plural], *middle, object_noun.form(n)) for n in (plural, not plural))
            couple.append((_one(*good), _one(*bad)))
        return couple

    def determiner(self) -> Couple:
        """`The king sees these cats/*cat.`"""
        return self._determiner(adjective=False)

    def determiner_with_adjective(self) -> Couple:
        """`The king sees these old cats/*cat.`"""
        return self._determiner(adjective=True)

    def anaphor_gender(self) -> Couple:
        """`The king near the queen praised himself/*herself.`"""
        couple = self.draw.one(lex.COUPLES)
        if self.draw.chance(0.5):
            couple = (couple[1], couple[0])
        _, verb = self.subject_and_verb(couple, lex.SOCIAL, held=True)
        other = self.draw.one([pair for pair in lex.COUPLES if pair[0].unit != couple[0].unit])
        link = self.draw.one(lex.PREPOSITIONS)
        predicate = self.predicate(verb, ()).singular
        pairs = []
        for noun in couple:
            distractor = next(n for n in other if n.kind != noun.kind)
            words = (*NounPhrase(noun, False).words, link, *NounPhrase(distractor, False).words, *predicate)
            pairs.append((_one(*words, noun.reflexive(False)), _one(*words, distractor.reflexive(False))))
        return pairs

    def anaphor_number(self) -> Couple:
        """`The king near the cats must praise himself/*themselves.`: the verb does not tell the number."""
        noun, verb = self.subject_and_verb(lex.GENDERED + lex.ANIMALS, lex.SOCIAL, held=True)
        link, other = self.draw.one(lex.PREPOSITIONS), self.other(noun)
        predicate = self.predicate(verb, (), ("modal", "past")).singular
        pairs = []
        for plural in (False, True):
            words = (*NounPhrase(noun, plural).words, link, *NounPhrase(other, not plural).words, *predicate)
            pairs.append((_one(*words, noun.reflexive(plural)), _one(*words, noun.reflexive(not plural))))
        return pairs

    def filler_gap(self) -> Couple:
        """`The king hears what/*that the queen carries.`, `The king hears that/*what the queen carries the cup.`"""
        noun, knows = self.subject_and_verb(lex.HUMANS, lex.COGNITION, held=True)
        inner, verb = self.subject_and_verb(lex.ANIMATES, lex.HANDLING, held=True, but=noun)
        outer = replace(self.phrase(noun, plain=True), determiner=lex.THE)
        subject = self.phrase(inner, plain=True)
        opening = outer.words + self.predicate(knows, ()).words(outer.plural)
        clause = subject.words + self.predicate(verb, ()).words(subject.plural)
        rest = self.complement(verb, inner)
        return [
            (_one(*opening, "what", *clause), _one(*opening, "that", *clause)),
            (_one(*opening, "that", *clause, *rest), _one(*opening, "what", *clause, *rest)),
        ]

    def polarity_scope(self) -> Couple:
        """`Perhaps no king has ever slept and the boy has often sung.`, `... the boy has often sung and no king ...`

        Bad with `no` and `the` exchanged, so that `ever` stands in the clause without a licensor.
        """
        noun, verb = self.subject_and_verb(lex.ANIMATES, lex.INTRANSITIVE, held=True)
        other, other_verb = self.subject_and_verb(lex.ANIMATES, lex.INTRANSITIVE, held=True, but=noun)
        plural, other_plural = self.draw.chance(0.5), self.draw.chance(0.5)

        def clauses(ever: tuple[str, str], often: tuple[str, str]) -> list[Words]:
            return [
                (*NounPhrase(head, number, kind).words, "have" if number else "has", adverb, done.participle)
                for head, number, kind, adverb, done in (
                    (noun, plural, ever, "ever", verb),
                    (other, other_plural, often, "often", other_verb),
                )
            ]

        lead, good, bad = self.draw.one(lex.LEADS), clauses(NO, lex.THE), clauses(lex.THE, NO)
        return [
            (_one(lead, *good[a], "and", *good[b]), _one(lead, *bad[a], "and", *bad[b])) for a, b in ((0, 1), (1, 0))
        ]

    def auxiliary(self) -> Couple:
        """`The king will not sleep/*slept.`, `The king has not slept/*sleep.`"""
        noun, verb = self.subject_and_verb(lex.ANIMATES, lex.INTRANSITIVE + lex.SOCIAL, held=True)
        head = self.phrase(noun, plain=True)
        rest = self.complement(verb, noun)
        pairs = []
        for auxiliary, good, bad in (
            (self.draw.one(lex.MODALS), verb.base, verb.participle),
            ("have" if head.plural else "has", verb.participle, verb.base),
        ):
            opening = (*head.words, auxiliary, "not")
            pairs.append((_one(*opening, good, *rest), _one(*opening, bad, *rest)))
        return pairs

    def dialogue_pronoun(self) -> Couple:
        """`Does the queen sleep? Yes, she/*he sleeps.`"""
        couple = self.draw.one(lex.COUPLES)
        _, verb = self.subject_and_verb(couple, lex.INTRANSITIVE + lex.HANDLING, held=True)
        rest = self.complement(verb, couple[0])
        pairs = []
        for noun, other in (couple, couple[::-1]):
            good = self.exchange(noun, False, verb, rest)
            answer = tuple(other.pronoun(False) if word == noun.pronoun(False) else word for word in good[1].words)
            pairs.append((good, [good[0], replace(good[1], words=answer)]))
        return pairs
