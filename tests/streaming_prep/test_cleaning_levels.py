"""The steps of the full level: each rule, equality with the reference, linear time, and the cost of a plain line."""

from __future__ import annotations

import random
import time

import ftfy
import pytest
from sacremoses import MosesPunctNormalizer

from streaming_prep.cleaners import CLEANERS, encoding, levels
from streaming_prep.cleaners.encoding import LONG_LINE, fix_encoding
from streaming_prep.cleaners.levels import full, normalize_punctuation
from streaming_prep.cleaners.spacing import join_contractions, space_marks, space_quotes
from streaming_prep.cleaners.text import drop_dash, drop_references, squeeze, undo_entities
from tests.streaming_prep import cleaning_reference
from tests.streaming_prep.cleaning_cases import CORPORA, clean, random_line, random_text


@pytest.mark.parametrize(
    ("raw", "spaced"),
    [
        ("U.S.A a.b 1.5", "U. S. A a.b 1.5"),
        ("he left.(then Ⅷ.Ⅷ", "he left. (then Ⅷ. Ⅷ"),
        ("no!yes?(maybe)wait…what’s", "no! yes? (maybe) wait… what’ s"),
        ("it...is", "it... is"),
        ("...is", "...is"),
        ("it...,", "it... ,"),
        ("it... ,", "it... ,"),
        ("... ,", "...,"),
        ("a....b", "a... . b"),
        ("a...", "a..."),
        ("a,b 1,000 a,(b", "a, b 1,000 a, (b"),
        ("a;b)c]d}e%f", "a; b) c] d} e% f"),
        ("a;;b", "a;; b"),
        ("a:b 1:2 1:b b:1 1:[", "a: b 1:2 1: b b: 1 1: ["),
        (":5", ": 5"),
        ("at 1 :5", "at 1: 5"),
        ("( a ) [ b ] { c }", "(a) [b] {c}"),
        ("‘ a ’", "‘ a’"),
        ("a , b . c ; d : e ? f ! g … h ’", "a, b. c; d: e? f! g… h’"),
        ("$ 5 £ ½ € Ⅷ 5 % ½ %", "$5 £½ €Ⅷ 5% ½%"),
        ("$ a a % ¥ 5", "$ a a % ¥ 5"),
        ("", ""),
        (" ", " "),
        (".", "."),
    ],
)
def test_spaces_around_marks(raw: str, spaced: str) -> None:
    assert space_marks(raw) == spaced


@pytest.mark.parametrize(
    ("raw", "joined"),
    [
        ("they 'll go", "they'll go"),
        ("DO N'T, I 'VE.", "DON'T, I'VE."),
        ("that 's", "that 's"),
        ("it 's?", "it 's?"),
        ("do N't go", "do N't go"),
        # The second form's space belongs to the first replacement.
        ("he 's 's it", "he's 's it"),
        # `n't` comes before `'ll`: it takes the space that `'ll` needs.
        ("do 'll n't x", "do 'lln't x"),
        ("do n't 'll x", "don't'll x"),
        ("x 's, 's.", "x's,'s."),
    ],
)
def test_contractions_join_the_word_before(raw: str, joined: str) -> None:
    assert join_contractions(raw) == joined
    assert cleaning_reference.contractions(raw) == joined


@pytest.mark.parametrize(
    ("raw", "spaced"),
    [
        ('he said" go"', 'he said "go"'),
        ('" go " now', '"go" now'),
        ('"go"now', '"go" now'),
        ('a" b', 'a" b'),
        ('a "" b', 'a "" b'),
        ('"a" "b"', '"a" "b"'),
        # Three changes for two marks: they were taken for each other.
        ('a" b "c', 'a" b "c'),
        ('he said" go "', 'he said" go "'),
        # Three changes for four marks are more than two, but also more than two thirds.
        ('"a"b "c"d "', '"a"b "c"d "'),
        ('"a " x "b "', '"a" x "b"'),
        # Four changes for six marks are not more than two thirds.
        ('"a"b x "c"d x "e"f" "', '"a"b x "c"d x "e"f" "'),
        ('"a"b x "c"d x "e "f', '"a" b x "c" d x "e" f'),
    ],
)
def test_double_quotes(raw: str, spaced: str) -> None:
    assert space_quotes(raw) == spaced
    assert cleaning_reference.double_quotes(raw) == spaced


def test_full_squeezes_all_white_space_before_it_repairs_the_encoding() -> None:
    for blank in "\u00a0\u2003\u202f\x85\x0b\x1c\x1f\u3000\u2028\t":
        assert full(f"a{blank}{blank} ,b") == "a, b"
    assert full("`a` ''b'' 5 % (c) — …") == '`a` "b" 5% (c) - ...'
    assert full("naÃ¯ve “x” &lt;") == 'naïve "x" <'
    assert full("&amp;lt;") == "& lt;"


def test_small_steps() -> None:
    assert squeeze(" a \t b\u2003\x85c  ") == "a b c"
    assert [drop_dash(text) for text in ("- - a", "--a", "-a", "-", "a")] == ["- a", "-a", "a", "", "a"]
    assert undo_entities("&amp;gt; &lt;", 1) == "&gt; <"
    assert undo_entities("&amp;gt; &lt;", 2) == "> <"
    assert drop_references("a[1] [b] [12]c[]") == "a [b] c[]"


def test_steps_equal_the_reference_on_random_lines() -> None:
    choose = random.Random(0)
    for _ in range(6000):
        line = " ".join(f"x{random_line(choose, 14)}x".split())[1:-1]
        assert space_marks(line) == cleaning_reference.spacing(line)
        assert join_contractions(line) == cleaning_reference.contractions(line)
        assert space_quotes(line) == cleaning_reference.double_quotes(line)
        raw = random_line(choose, 14).strip()
        assert full(raw) == cleaning_reference.full(raw)


@pytest.mark.parametrize("corpus", CORPORA)
def test_cleaners_equal_the_reference_on_random_texts(corpus: str) -> None:
    choose = random.Random(corpus)
    for _ in range(500):
        lines = random_text(choose, 8)
        assert clean(corpus, *lines) == cleaning_reference.clean(corpus, lines), lines


def test_shortcuts_around_the_libraries_change_nothing() -> None:
    moses = MosesPunctNormalizer(lang="en", penn=False)
    parts = list("ab A1 ()`'\":;,.%&<>[]-  \t$£é’‘“”…–—\u00a0«»\x1b\x01\u2028\r\u00adﬁ\x7f")
    parts += ["&amp;", "Ã©", "â€™", "  ", " %", "1 %", " ;", '",', "''"]
    choose = random.Random(0)
    for _ in range(6000):
        text = "".join(choose.choice(parts) for _ in range(choose.randint(0, 10)))
        assert fix_encoding(text) == ftfy.fix_text(text)
        assert normalize_punctuation(text) == moses.normalize(text)


def test_a_plain_line_reaches_no_library_and_no_replacement(monkeypatch: pytest.MonkeyPatch) -> None:
    def called(*args: object, **kwargs: object) -> None:
        raise AssertionError("a line that no rule can match took the slow path")

    line = 'We said, "go now"; they went, all 3 of them. Didn\'t we? Yes: at 5.'
    monkeypatch.setattr(encoding.ftfy, "fix_text", called)
    monkeypatch.setattr(levels._MOSES, "normalize", called)
    assert full(line) == line
    # The substitution returns its argument where it finds nothing.
    assert space_marks(line) is line
    assert join_contractions(line) is line


def test_a_long_line_is_repaired_as_a_short_one() -> None:
    words = "“Curly” don’t ﬁt naïve &amp; café … Ü½ £5 e\u0301 "
    text = words * (LONG_LINE // len(words) + 5)
    assert len(text) > LONG_LINE
    assert fix_encoding(text) == ftfy.fix_text(text)
    # In a text with "<" ftfy leaves entities alone, wherever it stands.
    assert fix_encoding(text + "<") == ftfy.fix_text(text + "<")
    mojibake = "cafÃ© donâ€™t " * 1000
    assert fix_encoding(mojibake) == ftfy.fix_text(mojibake)


INPUTS = [
    *[("", unit, "") for unit in (".", '"', "(", ")", "[", "]", "{", " ", "...A", "[[", "[[a|", "[[a]", "= = = a")],
    *[
        ("", unit, "")
        for unit in ("'", "''", "``", " 's", "- ", "1", "[1", "1 :", "\t", "\u00a0", "’", "…", '" a', '"a')
    ],
    *[("", "&amp;", ""), ("&", "amp;", "lt;"), ("a", "\u0301\u0316", ""), ("", "Ã©", "漢"), ("", "ÂÂÂ©", "")],
]


def _cpu_seconds(corpus: str, line: str) -> float:
    began = time.process_time()
    list(CLEANERS[corpus].clean([line]))
    return time.process_time() - began


@pytest.mark.parametrize("corpus", CORPORA)
@pytest.mark.parametrize(("start", "unit", "end"), INPUTS)
def test_time_is_linear_in_the_length_of_a_line(corpus: str, start: str, unit: str, end: str) -> None:
    short = _cpu_seconds(corpus, start + 2_000 * unit + end)
    long = _cpu_seconds(corpus, start + 20_000 * unit + end)
    # Ten times the length: quadratic time would be a hundred times as long.
    assert long < 40 * short + 0.2
