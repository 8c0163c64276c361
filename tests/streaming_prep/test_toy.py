from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from elc_composer.common.errors import ConfigError
from streaming_prep.cleaners import get_cleaner
from streaming_prep.toy import ToyLanguage, write_toy_language
from streaming_prep.toy import lexicon as lex
from streaming_prep.toy.corpora import CORPORA
from streaming_prep.toy.paradigm_table import PARADIGMS
from streaming_prep.toy.phrases import Draw, HeldOut
from streaming_prep.toy.sentence_grammar import SentenceGrammar
from streaming_prep.toy.write import words_of

WORDS = 60_000
DISTRACTED = (
    "distractor_prepositional",
    "distractor_relative_clause",
    "anaphor_gender_distractor",
    "anaphor_number_distractor",
    "wh_vs_that",
    "npi_scope",
    "dialogue_pronoun",
)


@pytest.fixture(scope="module")
def language(tmp_path_factory: pytest.TempPathFactory) -> ToyLanguage:
    return write_toy_language(tmp_path_factory.mktemp("toy"), seed=0, words=WORDS)


@pytest.fixture(scope="module")
def pairs(language: ToyLanguage) -> dict[str, list[dict]]:
    return {path.stem: [json.loads(line) for line in path.open()] for path in sorted(language.minimal_pairs.iterdir())}


def corpus_text(language: ToyLanguage, split: str = "*") -> str:
    return "\n".join(path.read_text() for path in sorted(language.corpus.glob(f"*.{split}")))


def bare(text: str) -> str:
    """Lower-case words alone, whatever the corpus made of case, punctuation and line ends."""
    return " ".join(re.findall(r"[a-z]+", re.sub(r"^[AB]:\s", "", text, flags=re.MULTILINE).lower()))


def outlined(text: str) -> str:
    """Bare words, a bar at each end of a sentence: a sentence inside a longer one is not that sentence."""
    return " | ".join(["", *(" ".join(words) for words in sentences_of(text)), ""])


def sentences_of(text: str) -> list[list[str]]:
    return [words for part in re.split(r"[.?]", text) if (words := bare(part).split())]


def accuracy(rows: list[dict], score) -> float:
    """Share of pairs in which the good sentence scores higher; ties count a half."""
    differences = [score(row["sentence_good"]) - score(row["sentence_bad"]) for row in rows]
    return sum(0.5 if abs(d) < 1e-9 else float(d > 0) for d in differences) / len(rows)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_same_seed_gives_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    write_toy_language(tmp_path / "here", seed=3, words=3_000)
    command = [sys.executable, "-m", "streaming_prep.toy", "--out", str(tmp_path / "there"), "--seed", "3"]
    subprocess.run(
        [*command, "--words", "3000"], check=True, env={"PYTHONHASHSEED": "77"}, cwd=Path(__file__).parents[2]
    )
    assert files(tmp_path / "here") == files(tmp_path / "there")


def test_another_seed_gives_another_corpus_and_other_pairs(tmp_path: Path) -> None:
    write_toy_language(tmp_path / "0", seed=0, words=3_000)
    write_toy_language(tmp_path / "1", seed=1, words=3_000)
    zero, one = files(tmp_path / "0"), files(tmp_path / "1")
    assert zero.keys() == one.keys()
    assert all(zero[name] != one[name] for name in zero)


def test_layout_and_sizes(language: ToyLanguage) -> None:
    assert {path.name for path in language.corpus.iterdir()} == {
        f"{name}.{split}" for name, _, _ in CORPORA for split in ("train", "dev")
    }
    train = sum(count for file, count in language.words.items() if file.endswith(".train"))
    assert WORDS <= train <= 1.05 * WORDS
    assert len(bare(corpus_text(language)).split()) == sum(language.words.values())


def test_raw_shapes(language: ToyLanguage) -> None:
    def lines(name: str) -> list[str]:
        return (language.corpus / f"{name}.train").read_text().split("\n")

    assert all(re.fullmatch(r"([AB]:\t[A-Z].*[.?])?", line) for line in lines("switchboard"))
    assert all(re.fullmatch(r"([a-z ,]+ [.?])?", line) for line in lines("aochildes"))
    assert all(re.fullmatch(r"([a-z ]+ \.)?", line) for line in lines("simple_wikipedia"))
    assert all(re.fullmatch(r"([A-Z].*[.?])?", line) for line in lines("children_stories"))
    assert max(map(len, lines("gutenberg"))) <= 72
    assert all(
        (language.corpus / f"{name}.train").read_text().endswith("\n\n") for name in ("gutenberg", "simple_wikipedia")
    )


def test_cleaning_keeps_the_words(language: ToyLanguage) -> None:
    for path in sorted(language.corpus.iterdir()):
        raw = path.read_text()
        cleaned = "\n".join(get_cleaner(path.stem).clean(raw.split("\n"))).replace('"', "")
        assert 0.99 * language.words[path.name] <= len(bare(cleaned).split()) <= language.words[path.name], path.name


def test_pairs_have_the_fields_of_blimp(pairs: dict[str, list[dict]]) -> None:
    assert set(pairs) == {paradigm.uid for paradigm in PARADIGMS}
    for uid, rows in pairs.items():
        assert [row["pair_id"] for row in rows] == list(range(100))
        assert {row["UID"] for row in rows} == {uid}
        assert len({row["sentence_good"] for row in rows}) == 100
        assert all(row["linguistics_term"] and row["field"] for row in rows)


def test_good_and_bad_differ_and_are_equally_long(pairs: dict[str, list[dict]]) -> None:
    for rows in pairs.values():
        for row in rows:
            good, bad = row["sentence_good"].split(), row["sentence_bad"].split()
            assert len(good) == len(bad)
            assert 1 <= sum(a != b for a, b in zip(good, bad)) <= 2


def test_no_sentence_is_good_in_one_pair_and_bad_in_another(pairs: dict[str, list[dict]]) -> None:
    rows = [row for paradigm in pairs.values() for row in paradigm]
    assert {row["sentence_good"] for row in rows}.isdisjoint(row["sentence_bad"] for row in rows)


@pytest.mark.parametrize("words", [1_000, WORDS])
def test_the_corpus_has_the_words_of_the_pairs_but_not_their_sentences(tmp_path: Path, words: int) -> None:
    language = write_toy_language(tmp_path, seed=5, words=words)
    rows = [json.loads(line) for path in language.minimal_pairs.iterdir() for line in path.open()]
    assert words_of(row[key] for row in rows for key in ("sentence_good", "sentence_bad")) <= words_of(
        [corpus_text(language, "train")]
    )
    raw = corpus_text(language)
    text = outlined(raw)
    assert all(outlined(" ".join(sentence) + ".") in text for sentence in sentences_of(raw)[:50])
    assert not [row for row in rows if outlined(row["sentence_good"]) in text]


def test_corpus_keeps_held_out_combinations_apart() -> None:
    held_out = HeldOut(0)
    nouns = {noun.form(plural): noun for noun in lex.ANIMATES for plural in (False, True)}
    bases = {
        form: verb.base
        for verb in lex.INTRANSITIVE + lex.SOCIAL + lex.HANDLING + lex.COGNITION
        for form in (verb.base, verb.third, verb.past, verb.participle)
    }
    adjectives = set(lex.TEMPERS + lex.LOOKS)
    clauses, qualities = set(), set()
    for name, write, _ in CORPORA:
        grammar = SentenceGrammar(Draw(name), held_out)
        for sentence in (s for _ in range(150) for s in write(grammar)[1]):
            words = [word for word in sentence.words if word not in {"not", "has", "have", "do", "does", *lex.MODALS}]
            start = 2 if words[1] in adjectives else 1
            if words[start] in nouns and words[start + 1] in bases:
                clauses.add((words[start], bases[words[start + 1]]))
            qualities |= {(b, a) for a, b in pairwise(words) if a in adjectives and b in nouns}
    assert len(clauses) > 500
    assert len(qualities) > 300
    assert not [pair for pair in clauses | qualities if held_out.holds(nouns[pair[0]], pair[1])]


def test_word_frequency_does_not_solve_the_pairs(language: ToyLanguage, pairs: dict[str, list[dict]]) -> None:
    counts = Counter(re.findall(r"[A-Za-z]+|[.,?]", corpus_text(language, "train")))
    for uid, rows in pairs.items():
        found = accuracy(rows, lambda text: sum(math.log(counts[w]) for w in re.findall(r"[A-Za-z]+|[.,?]", text)))
        assert 0.45 <= found <= 0.55, uid


def test_bigrams_solve_the_plain_paradigms_but_not_those_with_distractors(
    language: ToyLanguage, pairs: dict[str, list[dict]]
) -> None:
    unigrams: Counter[str] = Counter()
    bigrams: Counter[tuple[str, str]] = Counter()
    for words in sentences_of(corpus_text(language, "train")):
        padded = ["<s>", *words, "</s>"]
        unigrams.update(padded[:-1])
        bigrams.update(pairwise(padded))

    def score(text: str) -> float:
        padded = [["<s>", *words, "</s>"] for words in sentences_of(text)]
        neighbours = [pair for words in padded for pair in pairwise(words)]
        return sum(math.log((bigrams[a, b] + 0.1) / (unigrams[a] + 0.1 * len(unigrams))) for a, b in neighbours)

    found = {uid: accuracy(rows, score) for uid, rows in pairs.items()}
    assert found["determiner_noun"] >= 0.9
    for uid in DISTRACTED:
        assert found[uid] <= 0.65, found


def test_invalid_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="words is 0"):
        write_toy_language(tmp_path, words=0)
    with pytest.raises(ConfigError, match="even number"):
        write_toy_language(tmp_path, pairs_per_paradigm=7)
