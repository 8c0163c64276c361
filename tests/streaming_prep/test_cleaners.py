"""The cleaner of each corpus: its rules, no lost text, constant memory, and lookup by name."""

from __future__ import annotations

import pytest

from elc_composer.common.errors import DataError
from streaming_prep.cleaners import ALIASES, CLEANERS, get_cleaner
from streaming_prep.cleaners.encyclopedia import STUB_LENGTH
from tests.streaming_prep.cleaning_cases import CORPORA, clean


@pytest.mark.parametrize("corpus", ["aochildes", "bnc_spoken"])
@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("we can go now .", '"We can go now."'),
        ("she wo n't , they 'll see", "\"She won't, they'll see\""),
        ("stop!come here;now", '"Stop! come here; now"'),
        ("well...maybe it ended.She left", '"Well... maybe it ended. She left"'),
        ("it is 10,000 at 12:30,ok", '"It is 10,000 at 12:30, ok"'),
        ("at 3 :30", '"At 3: 30"'),
        ("5 % of £ 30", '"5% of £30"'),
        ('she said "go "now', '"She said "go" now"'),
        ("a ‘big’word and don’t", "\"A 'big' word and don' t\""),
        ("wait … what(sic)is", '"Wait... what (sic) is"'),
        ("naÃ¯ve donâ€™t", '"Naïve don\'t"'),
        ("U.S.A and a.b", '"U. S. A and a.b"'),
        ("a\x85b\u00a0\u00a0c", '"A b c"'),
        ("ßa", '"SSa"'),
    ],
)
def test_transcripts_become_written_quotations(corpus: str, raw: str, cleaned: str) -> None:
    assert clean(corpus, raw) == [cleaned]


def test_bnc_spoken_drops_lines_of_a_single_mark() -> None:
    assert clean("bnc_spoken", "well", " ? ", ".", "!", "well", "I", "-") == ['"Well"', '"I"', '"-"']
    assert clean("aochildes", "?") == ['"?"']


@pytest.mark.parametrize("corpus", ["aochildes", "bnc_spoken"])
def test_transcripts_keep_every_blank_line_and_a_turn_after_it(corpus: str) -> None:
    assert clean(corpus, "", "yes .", "yes. ", "", "\u00a0", "yes.") == ["", '"Yes."', "", "", '"Yes."']


@pytest.mark.parametrize("corpus", ["open_subtitles", "qed"])
def test_subtitles_keep_one_blank_line_and_a_turn_after_it(corpus: str) -> None:
    raw = ["", "", "Yes.", '"Yes."', "", "-", "Yes.", "Yes."]
    assert clean(corpus, *raw) == ["", '"Yes."', "", '"Yes."']


def test_switchboard_keeps_every_blank_line_and_drops_repeats_across_them() -> None:
    assert clean("switchboard", "", "Yes.", "", "", "Yes.", "No.", "Yes.") == ["", '"Yes."', "", "", '"No."', '"Yes."']


def test_switchboard_keeps_the_speaker_and_drops_one_dash() -> None:
    raw = ["A:\tWell,  yes.", "- B:\tNo", "--A: x", "- - B: y"]
    assert clean("switchboard", *raw) == ['"A: Well, yes."', '"B: No"', '"-A: x"', '"- B: y"']


@pytest.mark.parametrize("corpus", ["open_subtitles", "qed"])
def test_subtitles_quote_speech_alone(corpus: str) -> None:
    kept = ["[music]", "(a door)", "{note}", '"quoted"', '"begun', 'ended"', "NARRATOR:", "[a] [b]", '"']
    assert clean(corpus, *kept) == kept
    spoken = ["- Hi.", "--Bye", "♪ la ♪", "(half", "all gone (sighs)", "(a) [b]", 'a "b" c', "x &amp; y", "("]
    turns = [
        '"Hi."',
        '"-Bye"',
        '"♪ la ♪"',
        '"(half"',
        '"all gone (sighs)"',
        '"(a) [b]"',
        '"a "b" c"',
        '"x & y"',
        '"("',
    ]
    assert clean(corpus, *spoken) == turns


def test_the_dash_goes_after_encoding_repair_in_open_subtitles_and_before_it_in_qed() -> None:
    # The zero-width U+FEFF before the dash disappears only by the repair; "&#45;" is a dash.
    for raw in ("\ufeff- a", "&#45; a"):
        assert clean("open_subtitles", raw) == ['"a"']
        assert clean("qed", raw) == ['"- a"']


def test_qed_drops_times_arrows_and_markup() -> None:
    assert clean("qed", "12:", "1:2: 3:", ":", "²:", "00:01 --> 00:02", "at 12:", "1:2: go") == ["at 12:", '"1:2: go"']
    # "<" keeps ftfy from undoing entities. Both entities in one line are markup, at each of three levels.
    assert clean("qed", "a < &lt;b&gt;", "a < &amp;lt;b&amp;gt;", "a < &amp;amp;lt b&gt", "a < b &gt;") == ['"a < b >"']
    assert clean("qed", "a < b -&gt; c") == []
    assert clean("qed", "a < &amp;amp;amp;gt;") == ['"a < &gt;"']


def test_cbt_undoes_treebank_tokens() -> None:
    raw = ["`` Oh , '' he -LRB- Al -RRB- said .", "", "-LSB- a -RSB- -LCB- b -RCB-", "it 's—don’t", "", " "]
    assert clean("cbt", *raw) == ['"Oh," he (Al) said.', "", "[a] {b}", "it 's - don' t", "", ""]
    # One plain space goes with a quotation mark; the next one goes because the mark opens a quotation.
    assert clean("cbt", "``  a ''", "``\u00a0a b''c") == ['"a"', '"a b" c']
    assert clean("cbt", "-LRB-RRB- b") == ["(RRB- b"]


def test_children_stories_mark_indentation_and_end_documents_after_two_lines() -> None:
    raw = ["", "one  line", "", "    indented", "two", " ", "", "\ttab", "", "   three", "x", "\u00a0", "y"]
    cleaned = ["one line", "[TAB] indented", "two", "", "tab", "three", "x", "", "y"]
    assert clean("children_stories", *raw) == cleaned
    # A line that only encoding repair empties counts as text.
    assert clean("children_stories", "\ufeff", "a", "", "    \ufeff") == ["", "a", "", "[TAB]"]


def test_gutenberg_joins_paragraphs_and_ends_documents_at_two_blank_lines() -> None:
    raw = ["CHAPTER I", "", "", "a", "b", "", "c", " d", "", "\x85", "", "", "e"]
    assert clean("gutenberg", *raw) == ["CHAPTER I", "a b", "c d", "", "e"]


def test_wikipedia_removes_markup() -> None:
    raw = [
        "= = = A = = =",
        "",
        "b[1] [[c|d]] [[e]] [[f||g|h]]",
        "[[File:x.png|thumb]]",
        "[[Category:Y]]",
        "[[Image:x.png|thumb]]",
        "== F ==",
        "= = = B = = = x",
        "g = = = H = = =",
        "= = = I = J = = =",
        "[2]",
        "[[a] b]] [[c|d]e]] [[f",
    ]
    assert clean("wikipedia", *raw) == [
        "A",
        "b c e f",
        "Image:x.png",
        "== F ==",
        "",
        "B x",
        "g H",
        "",
        "= = = I = J = = =",
        "",
        "[[a] b]] [[c|d]e]] [[f",
    ]


def test_wikipedia_titles_start_a_document_from_the_second_input_line_on() -> None:
    assert clean("wikipedia", "= = = A = = =") == ["A"]
    assert clean("wikipedia", "", "= = = A = = =") == ["", "A"]


def test_simple_wikipedia_drops_stubs_with_their_titles() -> None:
    raw = ["A", "A is a village in B.", "", "", "C", "C is[1] big.", "", "D", "D is a commune. It is in E.", "F", "G"]
    assert clean("simple_wikipedia", *raw) == ["C", "C is big.", "", "F", "G"]
    assert clean("simple_wikipedia", "A", "A is a commune of B.") == ["A", "A is a commune of B."]
    phrase = "A is a city in B. "
    assert clean("simple_wikipedia", "A", phrase + "x" * (STUB_LENGTH - 1 - len(phrase))) == []
    long = phrase + "x" * (STUB_LENGTH - len(phrase))
    assert clean("simple_wikipedia", "A", long) == ["A", long]


def test_simple_wikipedia_undoes_entities_twice() -> None:
    # "<" keeps ftfy from undoing them.
    assert clean("simple_wikipedia", "< &amp;amp;gt; &amp;lt;") == ["< &gt; <"]


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


def test_cleaners_are_found_by_the_names_of_every_layout() -> None:
    assert get_cleaner("childes") is CLEANERS["aochildes"]
    assert get_cleaner("simple_wiki") is CLEANERS["simple_wikipedia"]
    assert set(ALIASES.values()) < set(CLEANERS)
    assert clean("none", "  as is ", " ") == ["  as is ", ""]


@pytest.mark.parametrize(("name", "nearest"), [("gutenburg", "gutenberg"), ("switchbord", "switchboard")])
def test_unknown_cleaners_name_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(DataError, match=f"'{name}'.*nearest: {nearest}"):
        get_cleaner(name)
