"""Write the toy language: a corpus in BabyLM's layout, and minimal pairs whose sentences are not in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from elc_composer.common.errors import ConfigError, DataError
from streaming_prep.toy.corpora import CORPORA, gutenberg, word_count
from streaming_prep.toy.paradigm_table import PARADIGMS, minimal_pairs
from streaming_prep.toy.paradigms import PairGrammar
from streaming_prep.toy.phrases import Draw, HeldOut
from streaming_prep.toy.sentence_grammar import SentenceGrammar

DEV_SHARE = 0.05
PAIRS = 100
MOST_EXTRA_CHAPTERS = 200_000


@dataclass(frozen=True)
class ToyLanguage:
    """Paths and sizes of a written toy language."""

    corpus: Path
    """Folder of `<corpus>.train` and `<corpus>.dev`."""
    minimal_pairs: Path
    """Folder of `<paradigm>.jsonl` in BLiMP's format."""
    words: dict[str, int]
    """Words of each file of the corpus, by name."""
    pairs: dict[str, int]
    """Minimal pairs of each paradigm."""


def write_toy_language(out: Path, seed: int = 0, words: int = 300_000, pairs_per_paradigm: int = PAIRS) -> ToyLanguage:
    """Write OUT/corpus, OUT/minimal_pairs and OUT/toy_language.json; the same seed gives the same bytes everywhere.

    Every word of the minimal pairs occurs in the `.train` files, so a very small corpus becomes larger than `words`. No
    corpus sentence combines a subject with a verb, or an adjective with a noun, that the pairs test.

    Args:
        words: words of all `.train` files together; the `.dev` files add a twentieth.

    Raises:
        ConfigError: invalid sizes.
        DataError: a paradigm has fewer pairs.
    """
    if words < 1:
        raise ConfigError(f"words is {words}, must be at least 1")
    if pairs_per_paradigm < 2 or pairs_per_paradigm % 2:
        raise ConfigError(f"pairs_per_paradigm is {pairs_per_paradigm}, must be an even number of at least 2")
    held_out = HeldOut(seed)
    pairs = {
        paradigm.uid: minimal_pairs(
            paradigm, PairGrammar(Draw(f"pairs {paradigm.uid} {seed}"), held_out), pairs_per_paradigm
        )
        for paradigm in PARADIGMS
    }
    files: dict[str, str] = {}
    counts: dict[str, int] = {}
    for split, size in (("train", words), ("dev", round(DEV_SHARE * words))):
        for name, write, share in CORPORA:
            grammar = SentenceGrammar(Draw(f"{name} {split} {seed}"), held_out)
            blocks, count = [], 0
            while count < share * size:
                text, sentences = write(grammar)
                blocks.append(text)
                count += word_count(sentences)
            files[f"{name}.{split}"], counts[f"{name}.{split}"] = "".join(blocks), count
    needed = words_of(
        str(row["sentence_good"]) + " " + str(row["sentence_bad"]) for rows in pairs.values() for row in rows
    )
    missing = needed - words_of(text for file, text in files.items() if file.endswith(".train"))
    text, count = _chapters_with(missing, SentenceGrammar(Draw(f"missing words {seed}"), held_out))
    files["gutenberg.train"] += text
    counts["gutenberg.train"] += count

    language = ToyLanguage(
        out / "corpus", out / "minimal_pairs", counts, {uid: len(rows) for uid, rows in pairs.items()}
    )
    for file, text in files.items():
        _write(language.corpus / file, text)
    for uid, rows in pairs.items():
        _write(language.minimal_pairs / f"{uid}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    settings = {"seed": seed, "words": words, "pairs_per_paradigm": pairs_per_paradigm}
    sizes = {key: value for key, value in asdict(language).items() if isinstance(value, dict)}
    _write(out / "toy_language.json", json.dumps({"settings": settings, **sizes}, indent=2) + "\n")
    return language


def words_of(texts: Iterable[str]) -> set[str]:
    """The different words of some texts, case kept, punctuation left out."""
    return {word for text in texts for word in re.findall(r"[A-Za-z]+", text)}


def _chapters_with(missing: set[str], grammar: SentenceGrammar) -> tuple[str, int]:
    """Chapters that together contain all missing words, and their number of words."""
    blocks: list[str] = []
    count = 0
    for _ in range(MOST_EXTRA_CHAPTERS):
        if not missing:
            return "".join(blocks), count
        text, sentences = gutenberg(grammar)
        if found := missing & words_of([text]):
            missing = missing - found
            blocks.append(text)
            count += word_count(sentences)
    raise DataError(f"the grammar never produces {', '.join(sorted(missing))}, which the minimal pairs need")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8"))
