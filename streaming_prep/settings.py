"""Build settings that affect the output."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from elc_composer.common.errors import ConfigError
from streaming_prep.chunks import CHUNK_BYTES, MAX_LINE_BYTES
from streaming_prep.packing import PACKINGS
from streaming_prep.train_tokenizer import MARKERS

MAX_DEV_SHARE = 0.5
ERRORS = ("strict", "replace", "ignore")
MAX_SEQ_LENGTH = 1_000_000
"""Longer ones are typing errors; folder names (`seq_128`) hold at most nine digits."""


@dataclass
class BuildSettings:
    """Settings of `streaming_prep.build.build`, without those that do not affect the output (engine, workers)."""

    corpus: list[Path]
    """Folders to read; see `streaming_prep.discover`."""
    dev: list[Path] = field(default_factory=list)
    """Folders or files of dev text, in addition to the dev files below `corpus`."""
    dev_share: float = 0.01
    """Share of the train text that becomes the dev split if there are no dev files; 0 makes none."""
    cleaner: str = "auto"
    """A cleaner's name for every file, `none`, or `auto`: the cleaner of the corpus's name."""
    errors: str = "strict"
    """Bytes that are not UTF-8: `strict` gives an error with the line, `replace` U+FFFD, `ignore` nothing."""
    tokenizer: Path | None = None
    """A tokenizer.json, or a folder with one; None trains one on the train files."""
    vocab_size: int = 16_384
    """Entries of the trained tokenizer."""
    min_frequency: int = 10
    """Number of occurrences of a pair that tokenizer training needs to merge it."""
    tokenizer_markers: str = "removed"
    """[PAR] and [TAB] in tokenizer training: `removed` or `published`; see `streaming_prep.train_tokenizer`."""
    seq_lengths: list[int] = field(default_factory=lambda: [128, 512])
    """Sequence lengths in tokens, with [CLS] and [SEP]; each has its own folder."""
    packing: str = "published"
    """`published` or `concat`; see `streaming_prep.packing`."""
    document_aware: bool = False
    """With `concat`: no segment holds two documents, or text of two files."""
    shard_bytes: int = 16 << 20
    """Size of a shard before compression."""
    chunk_bytes: int = CHUNK_BYTES
    """Bytes of raw text a job; does not affect the output."""
    max_line_bytes: int = MAX_LINE_BYTES
    """Longest line, in bytes; longer ones are an error."""

    def check(self) -> None:
        """Raise `ConfigError` for invalid values."""
        if self.packing not in PACKINGS:
            raise ConfigError(f"--packing {self.packing} is unknown; give one of {', '.join(PACKINGS)}")
        if self.document_aware and self.packing != "concat":
            raise ConfigError(
                f"--document-aware has no effect with --packing {self.packing}, which ends segments at blank lines; "
                "add --packing concat, or remove it"
            )
        if not 0 <= self.dev_share <= MAX_DEV_SHARE:
            raise ConfigError(f"--dev-share is {self.dev_share:g}, must be between 0 and {MAX_DEV_SHARE:g}")
        if self.errors not in ERRORS:
            raise ConfigError(f"--errors {self.errors} is unknown; give one of {', '.join(ERRORS)}")
        if self.tokenizer_markers not in MARKERS:
            raise ConfigError(
                f"--tokenizer-markers {self.tokenizer_markers} is unknown; give one of {', '.join(MARKERS)}"
            )
        if self.tokenizer is not None and self.tokenizer_markers != "removed":
            raise ConfigError("--tokenizer-markers has no effect with --tokenizer, which is not trained; remove it")
        if not self.seq_lengths or min(self.seq_lengths) < 3:
            raise ConfigError("--seq-length must be at least 3: [CLS], one token and [SEP]")
        if max(self.seq_lengths) > MAX_SEQ_LENGTH:
            raise ConfigError(f"--seq-length must be at most {MAX_SEQ_LENGTH:,}")
        if self.tokenizer is not None and not self.tokenizer.exists():
            raise ConfigError(f"the tokenizer {self.tokenizer} does not exist; give --tokenizer a tokenizer.json")
        if self.tokenizer is None and self.vocab_size < 8:
            raise ConfigError(f"--vocab-size {self.vocab_size} has no room beside the 7 special tokens; give more")
        sizes = {
            "--shard-bytes": self.shard_bytes,
            "--chunk-bytes": self.chunk_bytes,
            "--max-line-bytes": self.max_line_bytes,
            "--min-frequency": self.min_frequency,
        }
        for option, value in sizes.items():
            if value < 1:
                raise ConfigError(f"{option} is {value}, must be at least 1")

    def lengths(self) -> list[int]:
        """The distinct sequence lengths, ascending."""
        return sorted(set(self.seq_lengths))

    def recorded(self) -> dict[str, Any]:
        """The settings in the manifest: those that affect the output, without paths."""
        values = asdict(self)
        for name in ("corpus", "dev", "chunk_bytes", "max_line_bytes"):
            del values[name]
        if self.tokenizer is not None:
            del values["vocab_size"], values["min_frequency"], values["tokenizer_markers"]
        values["tokenizer"] = "given" if self.tokenizer is not None else "trained"
        values["seq_lengths"] = self.lengths()
        return values
