"""Packing: equality with the published segments and with a plain reference that adds sentence by sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from elc_composer.common.errors import ConfigError
from streaming_prep.packing import Meter, pack
from tests.conftest import require


def reference_published(documents: list[list[list[int]]], capacity: int) -> Iterator[list[int]]:
    for document in documents:
        segment: list[int] = []
        for sentence in document:
            if len(segment) + len(sentence) > capacity:
                yield segment + sentence[: capacity - len(segment)]
                segment = sentence[:capacity]
            else:
                segment = segment + sentence
        if segment:
            yield segment


def random_documents(seed: int, longest: int) -> list[list[list[int]]]:
    generator = np.random.default_rng(seed)
    tokens = iter(range(10**9))
    return [
        [[next(tokens) for _ in range(generator.integers(1, longest))] for _ in range(generator.integers(1, 12))]
        for _ in range(40)
    ]


def as_lengths(documents: list[list[list[int]]]) -> np.ndarray:
    return np.array([n for document in documents for n in [*map(len, document), 0]], np.int32)


def packed(documents: list[list[list[int]]], blocks: list[np.ndarray], *args: object) -> list[list[int]]:
    stream = [token for document in documents for sentence in document for token in sentence]
    segments = np.concatenate(list(pack(blocks, *args)))  # type: ignore[arg-type]
    return [stream[start : start + length] for start, length in segments.tolist()]


@pytest.mark.parametrize("longest", [4, 14, 40])
@pytest.mark.parametrize("seed", range(4))
def test_published_equals_the_plain_reference(seed: int, longest: int) -> None:
    documents = random_documents(seed, longest)
    expected = list(reference_published(documents, 14))
    assert packed(documents, [as_lengths(documents)], 16, "published") == expected


@pytest.mark.parametrize(("packing", "aware"), [("published", False), ("concat", False), ("concat", True)])
def test_the_segments_do_not_depend_on_the_blocks_of_the_input(packing: str, aware: bool) -> None:
    documents = random_documents(5, 30)
    lengths = as_lengths(documents)
    whole = packed(documents, [lengths], 16, packing, aware)
    assert whole == packed(documents, np.array_split(lengths, 23), 16, packing, aware)
    assert whole == packed(documents, [lengths[:-1]], 16, packing, aware), "the last document needs no end"


def test_concat_holds_every_token_once_in_full_segments() -> None:
    documents = random_documents(1, 30)
    segments = packed(documents, [as_lengths(documents)], 16, "concat")
    assert [token for segment in segments for token in segment] == list(range(segments[-1][-1] + 1))
    assert {len(segment) for segment in segments[:-1]} == {14}


@pytest.mark.parametrize("blocks", [1, 3])
def test_concat_never_exceeds_a_segment_whatever_the_number_of_tokens(blocks: int) -> None:
    for total in range(1, 3 * 14 + 2):
        lengths = np.ones(total, np.int32)
        segments = np.concatenate(list(pack(np.array_split(lengths, blocks), 16, "concat")))
        full, rest = divmod(total, 14)
        assert segments[:, 1].tolist() == [14] * full + [rest] * (rest > 0), total
        assert segments[:, 0].tolist() == list(range(0, total, 14)), total


def test_document_aware_concat_ends_segments_with_documents() -> None:
    documents = random_documents(2, 30)
    segments = iter(packed(documents, [as_lengths(documents)], 16, "concat", True))
    for document in documents:
        tokens = [token for sentence in document for token in sentence]
        while tokens:
            segment = next(segments)
            assert segment == tokens[:14]
            tokens = tokens[14:]
    assert next(segments, None) is None


def test_figures_count_repeated_and_dropped_tokens() -> None:
    documents = random_documents(3, 40)
    stream = [token for document in documents for sentence in document for token in sentence]
    for packing in ("published", "concat"):
        meter = Meter()
        for block in pack(np.array_split(as_lengths(documents), 7), 16, packing):
            meter.add(block)
        report = meter.finish(len(stream))
        held = [token for segment in packed(documents, [as_lengths(documents)], 16, packing) for token in segment]
        assert report.tokens == len(held)
        assert report.repeated == len(held) - len(set(held))
        assert report.dropped == len(set(stream) - set(held))
        shares = report.shares(14)
        assert shares.utilisation == pytest.approx(len(held) / report.samples / 14, abs=1e-6)
        assert shares.duplication == pytest.approx(report.repeated / len(stream), abs=1e-6)
        assert shares.dropped == pytest.approx(report.dropped / len(stream), abs=1e-6)


def test_empty_documents_give_no_segments() -> None:
    assert sum(map(len, pack([np.array([0, 0, 3, 0, 0])], 16, "published"))) == 1
    assert sum(map(len, pack([], 16, "concat"))) == 0


@pytest.mark.parametrize(("args", "word"), [((2, "concat"), "seq-length 2"), ((16, "best"), "'best'")])
def test_invalid_settings_are_refused(args: tuple[int, str], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        list(pack([], *args))


def golden_lengths(folder: Path) -> list[int]:
    names = [re.fullmatch(r"segments_(\d+)\.npz", path.name) for path in sorted(folder.glob("segments_*.npz"))]
    return [int(match[1]) for match in names if match]


@pytest.mark.golden
def test_published_segments_are_reproduced_exactly(golden_dir: Path) -> None:
    lines = require(golden_dir / "segment" / "segmented.txt").read_text(encoding="utf-8").split("\n")
    tokenizer = Tokenizer.from_file(str(require(golden_dir / "tokenizer_small.json")))
    encoded = [tokenizer.encode(line, add_special_tokens=False).ids for line in lines]
    lengths = np.array([len(ids) for ids in encoded], np.int32)
    stream = np.array([token for ids in encoded for token in ids])
    compared = golden_lengths(golden_dir / "segment")
    if not compared:
        pytest.skip(f"{golden_dir / 'segment'} holds no segments_*.npz")
    for seq_length in compared:
        expected = np.load(golden_dir / "segment" / f"segments_{seq_length}.npz")
        segments = np.concatenate(list(pack([lengths], seq_length, "published")))
        np.testing.assert_array_equal(segments[:, 1], expected["lengths"])
        tokens = np.concatenate([stream[start : start + length] for start, length in segments.tolist()])
        np.testing.assert_array_equal(tokens, expected["tokens"])
