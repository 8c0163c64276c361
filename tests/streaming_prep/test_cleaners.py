"""Cleaners: the published ones' output, each rule on its own, no lost text, and chunks that clean to the same."""

from __future__ import annotations

import random
from pathlib import Path

import ftfy
import pytest
from sacremoses import MosesPunctNormalizer

from elc_composer.common.errors import DataError
from streaming_prep.cleaners import ALIASES, CLEANERS, Boundary, Cleaner, get_cleaner
from streaming_prep.cleaners.encyclopedia import STUB_LENGTH
from streaming_prep.cleaners.text import fix_encoding, normalize_punctuation, squeeze
from tests.conftest import require

CORPORA = [name for name in CLEANERS if name != "none"]


def lines_of(path: Path) -> list[str]:
    return path.read_bytes().decode().removesuffix("\n").split("\n")


def clean(name: str, *lines: str) -> list[str]:
    return list(CLEANERS[name].clean(lines))


@pytest.mark.golden
@pytest.mark.parametrize("corpus", CORPORA)
def test_output_equals_the_published_cleaners_line_for_line(golden_dir: Path, corpus: str) -> None:
    raw = lines_of(require(golden_dir / "clean" / f"{corpus}.raw.txt"))
    expected = lines_of(require(golden_dir / "clean" / f"{corpus}.clean.txt"))
    assert list(CLEANERS[corpus].clean(raw)) == expected


@pytest.mark.parametrize("corpus", ["aochildes", "bnc_spoken"])
@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("we can go now .", '"We can go now."'),
        ("she wo n't , they 'll see", "\"She won't, they'll see\""),
        ("that is what they 've", '"That is what they \'ve"'),
        ("stop!come here;now", '"Stop! come here; now"'),
        ("well...maybe it ended.She left", '"Well... maybe it ended. She left"'),
        ("it is 10,000 at 12:30,ok", '"It is 10,000 at 12:30, ok"'),
        ("at 3 :30", '"At 3: 30"'),
        ("5 % of £ 30", '"5% of £30"'),
        ('she said "go "now', '"She said "go" now"'),
        ("a ‘big’word and don’t", "\"A 'big' word and don' t\""),
        ("wait … what(sic)is", '"Wait... what (sic) is"'),
        ("naÃ¯ve donâ€™t", '"Naïve don\'t"'),
        ("U.S.A and a.b", '"U.S.A and a.b"'),
    ],
)
def test_transcripts_become_written_quotations(corpus: str, raw: str, cleaned: str) -> None:
    assert clean(corpus, raw) == [cleaned]


def test_a_transcript_line_of_one_mark_vanishes() -> None:
    assert clean("bnc_spoken", "well", "?", "well", "I") == ['"Well"', '"I"']


@pytest.mark.parametrize("corpus", ["aochildes", "bnc_spoken", "open_subtitles", "qed", "switchboard"])
def test_speech_drops_a_repeated_turn_even_across_a_blank_line(corpus: str) -> None:
    assert clean(corpus, "Yes.", "Yes. ", "", "", "Yes.", "No.", "Yes.") == ['"Yes."', "", '"No."', '"Yes."']


def test_switchboard_keeps_the_speaker_and_drops_dashes() -> None:
    assert clean("switchboard", "A:\tWell,  yes.", "- B:\tNo") == ['"A: Well, yes."', '"B: No"']


@pytest.mark.parametrize("corpus", ["open_subtitles", "qed"])
def test_subtitles_quote_speech_alone(corpus: str) -> None:
    kept = ["[music]", "(a door)", "{note}", '"quoted"', '"begun', 'ended"', "NARRATOR:", "[a] [b]"]
    assert clean(corpus, *kept) == kept
    spoken = ["- Hi.", "--Bye", "♪ la ♪", "(half", "all gone (sighs)", "(a) [b]", 'a "b" c', "x &amp; y"]
    turns = ['"Hi."', '"Bye"', '"♪ la ♪"', '"(half"', '"all gone (sighs)"', '"(a) [b]"', '"a "b" c"', '"x & y"']
    assert clean(corpus, *spoken) == turns


def test_qed_drops_time_stamps() -> None:
    assert clean("qed", "12:", "1:2: 3:", "00:01 --> 00:02", "at 12:", "1:2: go") == ["at 12:", '"1:2: go"']


def test_cbt_undoes_treebank_tokens() -> None:
    raw = ["`` Oh , '' he -LRB- Al -RRB- said .", "", "-LSB- a -RSB- -LCB- b -RCB-", "it 's—don’t", "", ""]
    assert clean("cbt", *raw) == ['"Oh," he (Al) said.', "", "[a] {b}", "it's - don' t", "", ""]


def test_children_stories_mark_indentation_and_end_documents_after_two_lines() -> None:
    raw = ["", "one  line", "", "    indented", "two", " ", "", "\ttab", "", "   three", "x"]
    cleaned = ["one line", "[TAB] indented", "two", "", "tab", "three", "x"]
    assert clean("children_stories", *raw) == cleaned


def test_gutenberg_joins_paragraphs_and_ends_documents_at_two_blank_lines() -> None:
    raw = ["CHAPTER I", "", "", "a", "b", "", "c", " d", "", "", "", "e"]
    assert clean("gutenberg", *raw) == ["CHAPTER I", "a b", "c d", "", "e"]


def test_wikipedia_removes_markup() -> None:
    raw = [
        "= = = A = = =",
        "",
        "b[1] [[c|d]] [[e]]",
        "[[File:x.png|thumb]]",
        "[[Category:Y]]",
        "== F ==",
        "g = = = H = = =",
    ]
    assert clean("wikipedia", *raw) == ["", "A", "b c e", "== F ==", "g H"]


def test_simple_wikipedia_drops_stubs_with_their_titles() -> None:
    raw = ["A", "A is a village in B.", "", "", "C", "C is[1] big.", "", "D", "D is a commune. It is in E.", "F", "G"]
    assert clean("simple_wikipedia", *raw) == ["C", "C is big.", "", "F", "G"]
    long = "A is a city in B. " + "x" * STUB_LENGTH
    assert clean("simple_wikipedia", "A", long) == ["A", long]


@pytest.mark.parametrize("corpus", CORPORA)
def test_text_at_the_end_of_a_file_without_a_blank_line_is_kept(corpus: str) -> None:
    cleaned = " ".join(clean(corpus, "One line.", "", "The next one.", "And its end."))
    assert "One line." in cleaned
    assert "The next one." in cleaned
    assert "And its end." in cleaned


@pytest.mark.parametrize("name", CLEANERS)
def test_cleaning_streams(name: str) -> None:
    taken = 0

    def endless():
        nonlocal taken
        while True:
            yield "" if taken % 3 == 2 else f"Line number {taken}."
            taken += 1

    stream = CLEANERS[name].clean(endless())
    for _ in range(20):
        next(stream)
    assert taken < 200


PIECES = [
    "",
    " ",
    "\x85",
    "&nbsp;",
    "a",
    "a .",
    "b c",
    "?",
    "12:",
    "-",
    "x -> y",
    "= = = T = = =",
    "A is a town in B.",
    "    i",
    '"q"',
    "A",
]


@pytest.mark.parametrize("name", CLEANERS)
def test_chunks_cut_where_the_cleaner_allows_give_the_whole_texts_output(name: str) -> None:
    cleaner = CLEANERS[name]
    choose = random.Random(name)
    cuts = 0
    for _ in range(400):
        lines = [choose.choice(PIECES) for _ in range(choose.randint(2, 14))]
        whole = list(cleaner.clean(lines))
        for place in range(1, len(lines)):
            if cleaner.may_cut(lines[place - 1], lines[place]):
                cuts += 1
                parts = [*cleaner.clean(lines[:place]), *cleaner.clean(lines[place:])]
                assert parts == whole, (lines, place)
    assert cuts > 100


@pytest.mark.parametrize("name", CLEANERS)
@pytest.mark.parametrize("unit", [" ", ".", '"', "1", "1 :", "- ", "= ", "[", "''", "\t", "= = = "])
def test_a_huge_line_of_one_thing_takes_linear_time(name: str, unit: str) -> None:
    # Anything quadratic would take hours here, and meet the suite's time limit.
    assert len(list(CLEANERS[name].clean([unit * 100_000 + "x y"]))) <= 2


def test_boundaries_say_what_may_cut_does() -> None:
    for cleaner in CLEANERS.values():
        assert cleaner.may_cut("", "") is (cleaner.boundary is Boundary.LINE)
        assert cleaner.may_cut("", "text.") is (cleaner.boundary is not Boundary.DISTINCT_LINES)
        assert cleaner.may_cut("a text.", "another.") is (cleaner.boundary is not Boundary.BLANK_LINE)


def test_fast_paths_change_nothing() -> None:
    moses = MosesPunctNormalizer(lang="en")
    parts = list("ab A1 ()`'\":;,.%&<>[]-  \t$£é’‘“”…–—\u00a0«»\x1b\x01\u2028\r\u00adﬁ")
    parts += ["&amp;", "Ã©", "â€™", "  ", " %", "1 %", " ;", '",', "''"]
    choose = random.Random(0)
    for _ in range(8000):
        text = "".join(choose.choice(parts) for _ in range(choose.randint(0, 10)))
        assert fix_encoding(text) == ftfy.fix_text(text)
        assert normalize_punctuation(text) == moses.normalize(text)
    assert squeeze(" a \t b\tc  ") == "a b c"


def test_cleaners_are_found_by_the_names_of_every_layout_and_by_file() -> None:
    def found(name: str, file: str | None = None) -> Cleaner:
        return get_cleaner(name, file)

    assert found("childes") is CLEANERS["aochildes"]
    assert found("simple_wiki") is CLEANERS["simple_wikipedia"]
    assert set(ALIASES.values()) < set(CLEANERS)
    assert found("auto", "train_10M/simple_wiki.train") is CLEANERS["simple_wikipedia"]
    assert clean("none", "  as is ", " ") == ["  as is ", ""]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gutenburg",), "'gutenburg'.*nearest: gutenberg"),
        (("auto", "x/switchbord.dev"), "switchbord.dev.*nearest: switchboard"),
        (("auto",), "name a cleaner"),
    ],
)
def test_unknown_cleaners_name_the_nearest(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        get_cleaner(*arguments)
