"""Grammar of the toy corpus's sentences, none of which has a held-out combination."""

from __future__ import annotations

from dataclasses import replace

from streaming_prep.toy import lexicon as lex
from streaming_prep.toy.grammar import AGREEING, FINITE, Grammar, Sentence
from streaming_prep.toy.lexicon import Noun, Verb
from streaming_prep.toy.phrases import Predicate, Subject, Words

NO = ("no", "no")


class SentenceGrammar(Grammar):
    """Draws whole sentences."""

    def turn(self, questions: bool = True) -> list[Sentence]:
        """One sentence, or a question with its answer."""
        makers = [
            (self.statement, 0.32),
            (self.reflexive, 0.24),
            (self.embedded, 0.11),
            (self.emphatic, 0.14),
            (self.coordination, 0.07),
            (self.resumption, 0.08),
            (self.polarity, 0.08),
        ]
        if questions:
            makers += [(self.question, 0.09), (self.dialogue, 0.14)]
        return self.draw.weighted(makers)()

    def statement(self) -> list[Sentence]:
        """`The king near the queens sleeps today.`"""
        if self.draw.chance(0.2):
            noun = self.draw.one(lex.ANIMATES)
            predicate = self.copula(noun)
        else:
            noun, verb = self.subject_and_verb(lex.ANIMATES, lex.INTRANSITIVE + lex.SOCIAL + lex.HANDLING)
            predicate = self.predicate(verb, self.complement(verb, noun), AGREEING if self.draw.chance(0.6) else FINITE)
        subject = self.subject(noun)
        return [Sentence(self.lead(0.1) + subject.words + predicate.words(subject.head.plural))]

    def lead(self, probability: float) -> Words:
        """A word like `perhaps` before the sentence, or none."""
        return (self.draw.one(lex.LEADS),) if self.draw.chance(probability) else ()

    def reflexive(self) -> list[Sentence]:
        """`The queen near the boys has praised herself.`"""
        noun, verb = self.subject_and_verb(self.mostly_gendered(), lex.SOCIAL)
        subject = self.subject(noun, plural=self.draw.chance(0.4) or not noun.has_pronoun(False), modified=0.3)
        rest = (noun.reflexive(subject.head.plural), *self.draw.one((*lex.ADVERBS, (), ())))
        predicate = self.predicate(verb, rest)
        return [Sentence(subject.words + predicate.words(subject.head.plural))]

    def emphatic(self) -> list[Sentence]:
        """`The queen herself sleeps near the lake.`"""
        noun, verb = self.subject_and_verb(self.mostly_gendered(), lex.INTRANSITIVE + lex.SOCIAL)
        plural = self.draw.chance(0.4) or not noun.has_pronoun(False)
        subject = (*self.phrase(noun, plural).words, noun.reflexive(plural))
        return [Sentence(subject + self.predicate(verb, self.complement(verb, noun)).words(plural))]

    def embedded(self) -> list[Sentence]:
        """`The king remembers what the queen carries.` or `... that the queen carries the cup.`"""
        noun, knows = self.subject_and_verb(lex.HUMANS, lex.COGNITION)
        outer = self.subject(noun, modified=0.1)
        inner_noun, verb = self.subject_and_verb(lex.ANIMATES, lex.HANDLING, but=noun)
        inner = self.subject(inner_noun, modified=0.1)
        gap = self.draw.chance(0.5)
        head = self.predicate(knows, ("what" if gap else "that",))
        clause = self.predicate(verb, () if gap else self.complement(verb, inner_noun))
        return [
            Sentence(
                outer.words + head.words(outer.head.plural) + inner.words + clause.words(inner.head.plural),
            )
        ]

    def coordination(self) -> list[Sentence]:
        """`The king and the queen sleep.`"""
        verbs = lex.INTRANSITIVE + lex.SOCIAL
        noun, verb = self.subject_and_verb(lex.ANIMATES, verbs)
        other, _ = self.subject_and_verb(lex.ANIMATES, [verb], but=noun)
        words = (*self.phrase(noun, plain=True).words, "and", *self.phrase(other, plain=True).words)
        return [Sentence(words + self.predicate(verb, self.complement(verb, noun), AGREEING).plural)]

    def resumption(self) -> list[Sentence]:
        """`The queen laughs and she sleeps today.`"""
        noun, verb = self.subject_and_verb(self.mostly_gendered(), lex.INTRANSITIVE)
        _, second = self.subject_and_verb([noun], lex.INTRANSITIVE)
        plural = self.draw.chance(0.4) or not noun.has_pronoun(False)
        first = self.phrase(noun, plural).words + self.predicate(verb, ()).words(plural)
        rest = self.predicate(second, self.complement(second, noun)).words(plural)
        return [Sentence((*first, "and", noun.pronoun(plural), *rest))]

    def polarity(self) -> list[Sentence]:
        """`No king has ever slept and the queen has often smiled.`, `The king that no queen likes has often slept.`"""
        if self.draw.chance(0.5):
            clauses = [self.polar_clause(True), self.polar_clause(self.draw.chance(0.1))]
            first, second = clauses if self.draw.chance(0.5) else clauses[::-1]
            return [Sentence((*self.lead(0.4), *first, "and", *second))]
        noun, verb = self.subject_and_verb(lex.ANIMATES, lex.INTRANSITIVE)
        head = self.phrase(noun, plain=True)
        modifier = self.modifier("object_relative", noun)
        negated = self.draw.chance(0.5)
        if negated:
            subject = Subject(replace(head, determiner=NO), modifier if self.draw.chance(0.6) else None)
        else:
            subject = Subject(head, replace(modifier, phrase=replace(modifier.phrase, determiner=NO)))
        rest = ("ever" if negated else "often", verb.participle, *self.complement(verb, noun))
        return [Sentence((*self.lead(0.4), *subject.words, "have" if subject.head.plural else "has", *rest))]

    def polar_clause(self, negated: bool) -> Words:
        """`no king has ever slept`, `the king has often slept`"""
        noun, verb = self.subject_and_verb(lex.ANIMATES, lex.INTRANSITIVE)
        phrase = self.phrase(noun, plain=True)
        subject = replace(phrase, determiner=NO) if negated else phrase
        adverb = "ever" if negated else "often"
        return (*subject.words, "have" if phrase.plural else "has", adverb, verb.participle)

    def question(self) -> list[Sentence]:
        """`Does the king sleep?`, `What have the queens carried?`"""
        asks_what = self.draw.chance(0.4)
        noun, verb = self.subject_and_verb(
            lex.ANIMATES, lex.HANDLING if asks_what else lex.INTRANSITIVE + lex.SOCIAL + lex.HANDLING
        )
        subject = self.subject(noun, modified=0.1)
        words = self.asked(subject, verb, () if asks_what else self.complement(verb, noun))
        return [Sentence((*(("what",) if asks_what else ()), *words.words(subject.head.plural)), "?")]

    def asked(self, subject: Subject, verb: Verb, rest: Words) -> Predicate:
        """The question's words from its auxiliary on, for a subject in either number (the subject's own words stay)."""
        form = self.draw.weighted([("does", 0.5), ("has", 0.35), ("modal", 0.15)])
        if form == "does":
            words = (*subject.words, verb.base, *rest)
            return Predicate(("does", *words), ("do", *words))
        if form == "has":
            words = (*subject.words, verb.participle, *rest)
            return Predicate(("has", *words), ("have", *words))
        words = (self.draw.one(lex.MODALS), *subject.words, verb.base, *rest)
        return Predicate(words, words)

    def dialogue(self) -> list[Sentence]:
        """`Does the queen sleep? Yes, she sleeps near the lake.`"""
        noun, verb = self.subject_and_verb(self.mostly_gendered(), lex.INTRANSITIVE + lex.HANDLING)
        plural = self.draw.chance(0.4) or not noun.has_pronoun(False)
        return self.exchange(noun, plural, verb, self.complement(verb, noun))

    def mostly_gendered(self) -> tuple[Noun, ...]:
        """Nouns for sentences with pronouns: gender shows nowhere else, so persons of one gender come more often."""
        return lex.GENDERED if self.draw.chance(0.6) else lex.ANIMATES

    def exchange(self, noun: Noun, plural: bool, verb: Verb, rest: Words, pronoun: str = "") -> list[Sentence]:
        """A question about the noun and an answer with its pronoun (or the one given)."""
        subject = self.phrase(noun, plural, plain=True)
        answer = (pronoun or noun.pronoun(plural), verb.present(plural), *rest)
        asked = ("do" if plural else "does", *subject.words, verb.base)
        if verb in lex.HANDLING:
            return [Sentence(("what", *asked), "?"), Sentence(answer)]
        return [Sentence(asked, "?"), Sentence(("yes", ",", *answer))]
