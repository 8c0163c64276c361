"""Documents in the raw formats of the BabyLM corpora, filled with toy sentences; one function for each corpus."""

from __future__ import annotations

import textwrap
from collections.abc import Callable

from streaming_prep.toy.grammar import Sentence
from streaming_prep.toy.sentence_grammar import SentenceGrammar

LINE_WIDTH = 72
"""Characters in a line of the wrapped books."""


def gutenberg(grammar: SentenceGrammar) -> tuple[str, list[Sentence]]:
    """A chapter: paragraphs of wrapped lines, an empty line between them and one more after the last."""
    paragraphs = [_prose(grammar, grammar.draw.between(5, 9)) for _ in range(grammar.draw.between(2, 5))]
    filled = [textwrap.fill(_joined(p), LINE_WIDTH, break_on_hyphens=False) + "\n\n" for p in paragraphs]
    return "".join(filled) + "\n", [s for p in paragraphs for s in p]


def children_stories(grammar: SentenceGrammar) -> tuple[str, list[Sentence]]:
    """A story of some paragraphs, one a line, and an empty line after the last."""
    paragraphs = [_prose(grammar, grammar.draw.between(3, 6)) for _ in range(grammar.draw.between(3, 6))]
    return "".join(_joined(p) + "\n" for p in paragraphs) + "\n", [s for p in paragraphs for s in p]


def simple_wikipedia(grammar: SentenceGrammar) -> tuple[str, list[Sentence]]:
    """An article: lower case, one sentence a line, every punctuation mark a word of its own; no questions."""
    sentences = [s for _ in range(grammar.draw.between(4, 8)) for s in grammar.turn(questions=False)]
    return "".join(_spaced(s) + "\n" for s in sentences) + "\n", sentences


def switchboard(grammar: SentenceGrammar) -> tuple[str, list[Sentence]]:
    """A call between A and B, each line `A:<tab>text`; a question is answered by the other speaker."""
    lines, sentences = [], []
    speaker = 0
    for _ in range(grammar.draw.between(6, 12)):
        for sentence in grammar.turn():
            lines.append(f"{'AB'[speaker]}:\t{sentence}\n")
            sentences.append(sentence)
            speaker = 1 - speaker
    return "".join(lines) + "\n", sentences


def aochildes(grammar: SentenceGrammar) -> tuple[str, list[Sentence]]:
    """A child's session: lower case, one sentence a line, a space before the mark."""
    sentences = [s for _ in range(grammar.draw.between(6, 12)) for s in grammar.turn()]
    return "".join(_spaced(s) + "\n" for s in sentences) + "\n", sentences


CORPORA: tuple[tuple[str, Callable[[SentenceGrammar], tuple[str, list[Sentence]]], float], ...] = (
    ("gutenberg", gutenberg, 0.35),
    ("children_stories", children_stories, 0.3),
    ("simple_wikipedia", simple_wikipedia, 0.15),
    ("switchboard", switchboard, 0.1),
    ("aochildes", aochildes, 0.1),
)
"""Name, function and share of the words of each corpus."""


def word_count(sentences: list[Sentence]) -> int:
    """Number of words, without punctuation."""
    return sum(sum(word != "," for word in sentence.words) for sentence in sentences)


def _prose(grammar: SentenceGrammar, turns: int) -> list[Sentence]:
    return [sentence for _ in range(turns) for sentence in grammar.turn()]


def _joined(sentences: list[Sentence]) -> str:
    return " ".join(str(sentence) for sentence in sentences)


def _spaced(sentence: Sentence) -> str:
    return " ".join((*sentence.words, sentence.mark))
