"""Tiny prepared folders, as streaming_prep lays them out, for the tests of this package."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from streaming import MDSWriter

from elc_composer.data import TokenIds

VOCAB_SIZE = 200
TOKENS = TokenIds(vocab_size=VOCAB_SIZE)


def segment(index: int, seq_length: int) -> np.ndarray:
    """The `index`-th segment: its first two tokens spell the index, so that a test can tell where a batch came from."""
    rng = np.random.default_rng(index)
    size = int(rng.integers(2, seq_length - 1))
    return np.array([7 + index // 100, 100 + index % 100, *rng.integers(7, VOCAB_SIZE, size - 2)][:size], np.uint16)


def write_split(
    root: Path,
    samples: int,
    seq_length: int = 16,
    split: str = "train",
    column: dict[str, str] | None = None,
    shard_bytes: int = 700,
    compression: str | None = "zstd",
) -> Path:
    """Write `root/seq_<length>/<split>` with that many segments and name it in the manifest."""
    out = root / f"seq_{seq_length}" / split
    column = column or {"input_ids": "ndarray:uint16"}
    with MDSWriter(
        out=str(out), columns=column, compression=compression, hashes=["sha256"], size_limit=shard_bytes
    ) as writer:
        for index in range(samples):
            writer.write({name: segment(index, seq_length) for name in column})
    manifest = root / "manifest.json"
    outputs = json.loads(manifest.read_text())["outputs"] if manifest.exists() else {}
    manifest.write_text(json.dumps({"format_version": 1, "outputs": {**outputs, f"seq_{seq_length}/{split}": {}}}))
    return out
