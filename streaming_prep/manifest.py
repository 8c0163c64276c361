"""manifest.json of a prepared folder: its sources, settings, tokenizer and outputs, with their checksums."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

FORMAT_VERSION = 1


@dataclass(frozen=True)
class SourceEntry:
    """One corpus file."""

    corpus: str
    split: str
    file: str
    """Its path within the corpus folder."""
    cleaner: str
    sha256: str
    """Of the raw file, as `bytes` and `words` are."""
    bytes: int
    words: int
    sentences: int
    documents: int
    tokens: int


@dataclass(frozen=True)
class TokenizerEntry:
    """The tokenizer file, by its path in the prepared folder."""

    file: str
    sha256: str
    vocab_size: int


@dataclass(frozen=True)
class ShardEntry:
    """One compressed shard file of an output."""

    file: str
    sha256: str
    bytes: int
    samples: int


@dataclass(frozen=True)
class OutputEntry:
    """One split at one sequence length; token counts are without [CLS], [SEP] and padding."""

    samples: int
    tokens: int
    source_tokens: int
    """Tokens of the text."""
    utilisation: float
    duplication: float
    dropped: float
    column_dtype: str
    index_sha256: str
    shards: list[ShardEntry]


@dataclass(frozen=True)
class Manifest:
    """The content of manifest.json."""

    inputs: str
    """Digest of settings, sources, tokenizer and versions; equal digests give equal outputs."""
    sources: list[SourceEntry]
    tokenizer: TokenizerEntry
    settings: dict[str, Any]
    outputs: dict[str, OutputEntry]
    """By name, such as `seq_128/train`."""
    versions: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """The JSON object that `read_manifest` reads."""
        return {"format_version": FORMAT_VERSION, **asdict(self)}
