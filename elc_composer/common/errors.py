"""The two errors that a user can cause; each carries one sentence that names the culprit and the way out."""

from __future__ import annotations


class ConfigError(ValueError):
    """A run config, command line or constructor argument that cannot work."""


class DataError(ValueError):
    """Input data (text, shards, tokenizer, checkpoint, minimal pairs) that is missing, damaged or does not fit."""
