"""The two errors that a user can cause, and the one-line form of any exception."""

from __future__ import annotations


class ConfigError(ValueError):
    """An invalid run config, command line or constructor argument: one line with the key, the value and the remedy."""


class DataError(ValueError):
    """Missing, damaged or unsuitable input data: text, shards, tokenizer, checkpoint or minimal pairs."""


def one_line(error: BaseException) -> str:
    """The error's text without line breaks; its type's name if it has no text."""
    return " ".join(str(error).split()) or type(error).__name__
