"""What decides a build's bytes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from elc_composer.common.errors import ConfigError
from streaming_prep.chunks import CHUNK_BYTES, MAX_LINE_BYTES
from streaming_prep.packing import PACKINGS

ERRORS = ("strict", "replace", "ignore")


@dataclass
class BuildSettings:
    """Settings of `streaming_prep.build.build`; where it runs and on how many processes is not among them."""

    corpus: list[Path]
    """Folders to read; see `streaming_prep.discover`."""
    cleaner: str = "auto"
    """A cleaner's name for every file, `none`, or `auto`: by the corpus's name."""
    errors: str = "strict"
    """Bytes that are not UTF-8: `strict` stops and names the line, `replace` puts U+FFFD, `ignore` leaves them out."""
    tokenizer: Path | None = None
    """A tokenizer.json to take; without it one is trained on the train files."""
    vocab_size: int = 16_384
    """Entries of the trained tokenizer."""
    min_frequency: int = 10
    """How often a pair must occur to be merged in training."""
    seq_lengths: list[int] = field(default_factory=lambda: [128, 512])
    """Sequence lengths in tokens, with [CLS] and [SEP]; each gives its own folder."""
    packing: str = "published"
    """`published` or `concat`; see `streaming_prep.packing`."""
    document_aware: bool = False
    """No segment of `concat` holds two documents, or the text of two files."""
    shard_bytes: int = 16 << 20
    """Size of a shard before compression."""
    chunk_bytes: int = CHUNK_BYTES
    """Raw text a job; without influence on what is written."""
    max_line_bytes: int = MAX_LINE_BYTES
    """Longest line that is taken for text."""

    def check(self) -> None:
        """Raise `ConfigError` for values that cannot work."""
        if self.packing not in PACKINGS:
            raise ConfigError(f"no packing is called {self.packing!r}; take one of {', '.join(PACKINGS)}")
        if self.document_aware and self.packing != "concat":
            raise ConfigError(
                f"--document-aware says nothing about --packing {self.packing}, which ends segments at blank lines by "
                "itself; give --packing concat, or leave it out"
            )
        if self.errors not in ERRORS:
            raise ConfigError(f"--errors {self.errors} is not known; take one of {', '.join(ERRORS)}")
        if not self.seq_lengths or min(self.seq_lengths) < 3:
            raise ConfigError("--seq-length needs at least 3: [CLS], one token and [SEP]")
        if self.tokenizer is not None and not self.tokenizer.exists():
            raise ConfigError(f"the tokenizer {self.tokenizer} is not there; give --tokenizer a tokenizer.json")
        if self.tokenizer is None and self.vocab_size < 8:
            raise ConfigError(f"--vocab-size {self.vocab_size} has no room beside the 7 special tokens; give more")
        if min(self.shard_bytes, self.chunk_bytes, self.max_line_bytes, self.min_frequency) < 1:
            raise ConfigError("sizes and frequencies are at least 1")

    def recorded(self) -> dict[str, Any]:
        """The settings as the manifest has them: no paths, nothing that leaves the bytes as they are."""
        values = asdict(self)
        for name in ("corpus", "chunk_bytes", "max_line_bytes"):
            del values[name]
        if self.tokenizer is not None:
            del values["vocab_size"], values["min_frequency"]
        values["tokenizer"] = "given" if self.tokenizer is not None else "trained"
        values["seq_lengths"] = sorted(set(self.seq_lengths))
        return values
