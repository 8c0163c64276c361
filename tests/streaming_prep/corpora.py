"""A small corpus in the BabyLM layout, builds of it, and the files that they write."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from streaming_prep.build import build
from streaming_prep.manifest import Manifest
from streaming_prep.settings import BuildSettings

_WORDS = ["the", "a", "dog", "cat", "bird", "tree", "house", "runs", "sees", "small", "green", "27", "don't", "near"]


def make_corpus(folder: Path, lines: int = 300, seed: int = 0) -> Path:
    """Write three corpora of about `lines` lines each, with documents, repeats, quotes and non-ASCII text."""
    generator = random.Random(seed)

    def sentence() -> str:
        words = generator.choices(_WORDS, k=generator.randint(2, 12))
        return " ".join(words).capitalize() + generator.choice([".", ".", "?", "!", " é."])

    def text(blank: float) -> str:
        rows = ["" if generator.random() < blank else f"{sentence()} {sentence()}" for _ in range(lines)]
        return "\n".join(rows) + "\n"

    folder.mkdir(parents=True, exist_ok=True)
    for split, scale in (("train", 1.0), ("dev", 0.5)):
        (folder / f"switchboard.{split}").write_text(text(0.0), encoding="utf-8")
        (folder / f"gutenberg.{split}").write_text(text(0.2 * scale), encoding="utf-8")
        (folder / f"homemade.{split}").write_text(text(0.1), encoding="utf-8")
    return folder


def small_settings(corpus: Path, **changes: Any) -> BuildSettings:
    """Settings that divide even a small corpus into many jobs and shards."""
    values: dict[str, Any] = {
        "corpus": [corpus],
        "vocab_size": 200,
        "min_frequency": 2,
        "seq_lengths": [16, 48],
        "chunk_bytes": 4000,
        "shard_bytes": 12_000,
    }
    return BuildSettings(**(values | changes))


def build_small(corpus: Path, out: Path | str, **changes: Any) -> Manifest:
    """Build with `small_settings`; `workers`, `engine`, `work`, `keep_work` and `screen` are passed to `build`."""
    names = ("workers", "engine", "work", "keep_work", "screen")
    options = {name: changes.pop(name) for name in names if name in changes}
    return build(small_settings(corpus, **changes), out, **options)


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of every file below a folder, by its path in the folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
