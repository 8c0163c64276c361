"""Text with [MASK] is encoded to the ids that training masks, however the tokenizer is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from elc_composer.prepared.fast_tokenizer import load_fast_tokenizer
from elc_composer.prepared.tokenizer_files import (
    MASK,
    SPECIAL_TOKENS,
    load_tokenizer,
    masks_as_training,
    save_tokenizer,
)
from streaming_prep.train_tokenizer import train_tokenizer
from tests.conftest import require

WORDS = ["the", "cat", "cats", "dog", "see", "sees", "it", "is", "not"]
SENTENCES = [f"{a} {b}, {c}'s 19; (who?) {a}." for a in WORDS for b in WORDS for c in WORDS]
TEXTS = [
    "the cat sees the dog.",
    "cat, dog; see!",
    "the cat's dog is (not) it?",
    "the dog sees 19 cats",
    "it is it is it",
    "the cat.[PAR]",
    "[TAB] the cat",
    " the cat",
]


@pytest.fixture(scope="module", params=["trained", "published"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    if request.param == "published":
        folder = request.getfixturevalue("golden_dir")
        return load_tokenizer(require(folder / "tokenizer_small.json"))
    return train_tokenizer(SENTENCES, 120, min_frequency=1)


def encoders(tokenizer: Tokenizer, folder: Path) -> dict[str, Any]:
    saved = save_tokenizer(tokenizer, folder / "saved")
    again = save_tokenizer(load_tokenizer(saved), folder / "again")
    tokenizer.save(str(folder / "plain.json"))
    run = load_fast_tokenizer(str(folder / "plain.json"))
    run.save_pretrained(folder / "run")
    return {
        "saved": AutoTokenizer.from_pretrained(saved),
        "saved twice": AutoTokenizer.from_pretrained(again),
        "of a run": run,
        "of a run's folder": PreTrainedTokenizerFast.from_pretrained(folder / "run"),
    }


def masked_texts(tokenizer: Tokenizer, text: str) -> list[tuple[str, list[int]]]:
    """For each word and mark of `text`: the text with [MASK] in its place, and the ids that training has then.

    Left out is what follows a space that is a token of its own, such as the first digit of a number: [MASK] takes the
    space before it.
    """
    encoding = tokenizer.encode(text, add_special_tokens=False)
    words = [word for word in dict.fromkeys(encoding.word_ids) if word is not None]
    found = []
    for word in words:
        places = [i for i, other in enumerate(encoding.word_ids) if other == word]
        if len(places) != 1 or encoding.ids[places[0]] < len(SPECIAL_TOKENS):
            continue
        if places[0] and encoding.tokens[places[0] - 1] == "Ġ":
            continue
        start, end = encoding.offsets[places[0]]
        ids = list(encoding.ids)
        ids[places[0]] = SPECIAL_TOKENS.index(MASK)
        found.append((text[:start] + MASK + text[end:], ids))
    return found


def test_text_with_mask_gives_the_ids_that_training_masks(tokenizer: Tokenizer, tmp_path: Path) -> None:
    cases = [case for text in TEXTS for case in masked_texts(tokenizer, text)]
    assert len(cases) > 30
    assert any(text.startswith(MASK) for text, _ in cases)
    assert any(f"{MASK}." in text for text, _ in cases)
    for name, loaded in encoders(tokenizer, tmp_path).items():
        for text, ids in cases:
            assert loaded(text, add_special_tokens=False)["input_ids"] == ids, (name, text)


@pytest.mark.golden
def test_real_text_with_masks(golden_dir: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(require(golden_dir / "tokenizer_small.json"))
    ready = masks_as_training(tokenizer)
    lines = require(golden_dir / "segment" / "segmented.txt").read_text(encoding="utf-8").split("\n")[:400]
    cases = [case for line in lines if "  " not in line for case in masked_texts(tokenizer, line)[:6]]
    assert len(cases) > 1000
    wrong = [text for text, ids in cases if ready.encode(text, add_special_tokens=False).ids != ids]
    assert wrong == []


def test_several_masks_keep_their_number(tokenizer: Tokenizer, tmp_path: Path) -> None:
    for loaded in encoders(tokenizer, tmp_path).values():
        for text in (f"{MASK}{MASK}", f"{MASK} {MASK}", f"the {MASK} {MASK}{MASK} dog", f"\n{MASK}"):
            assert loaded(text, add_special_tokens=False)["input_ids"].count(4) == text.count(MASK), text
        assert loaded(f"the {MASK} dog", add_special_tokens=False)["input_ids"] == [
            *tokenizer.encode("the", add_special_tokens=False).ids,
            4,
            *tokenizer.encode("dog", add_special_tokens=False).ids,
        ]


def test_roles_and_size(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Without bos and eos, pipelines condition on "None" or add </s> beyond the vocabulary."""
    for loaded in encoders(tokenizer, tmp_path).values():
        assert (loaded.bos_token, loaded.bos_token_id) == ("[CLS]", 1)
        assert (loaded.eos_token, loaded.eos_token_id) == ("[SEP]", 2)
        assert (loaded.cls_token_id, loaded.sep_token_id, loaded.pad_token_id, loaded.mask_token_id) == (1, 2, 3, 4)
        assert len(loaded) == tokenizer.get_vocab_size()
        assert loaded.get_vocab() == tokenizer.get_vocab()
        assert loaded.convert_ids_to_tokens(list(range(7))) == list(SPECIAL_TOKENS)


@pytest.mark.parametrize("normalizer", [None, normalizers.Lowercase(), normalizers.NFKC()])
def test_other_kinds_of_tokenizers_keep_the_ids_of_text(normalizer: Any, tmp_path: Path) -> None:
    """Only the prefix space of byte-level tokenizers is moved; [MASK] in the vocabulary alone becomes a token."""
    vocabulary = {piece: i for i, piece in enumerate([*SPECIAL_TOKENS, "the", "cat", "."])}
    other = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    other.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if normalizer is not None:
        other.normalizer = normalizer
    ready = masks_as_training(other)
    assert ready.encode("the cat.").ids == other.encode("the cat.").ids == [7, 8, 9]
    assert ready.encode("the [MASK].").ids == [7, 4, 9]
    assert ready.get_vocab() == other.get_vocab()
