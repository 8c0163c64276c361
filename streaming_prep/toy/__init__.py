"""A small English-like language with its own grammar, to try the whole pipeline without a download."""

from __future__ import annotations

from streaming_prep.toy.write import ToyLanguage, write_toy_language

__all__ = ["ToyLanguage", "write_toy_language"]
