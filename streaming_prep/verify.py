"""Verify a prepared folder against its manifest: checksums, counts, segment lengths and token ids."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from elc_composer.common.errors import DataError
from elc_composer.prepared.layout import parse_dataset_name
from streaming_prep.manifest import OutputEntry, ShardEntry
from streaming_prep.mds_shards import name_shard, read_shard
from streaming_prep.reading import Prepared, open_prepared
from streaming_prep.screen import Screen

_SHOWN = 2
_SHOWN_CHARACTERS = 110


@dataclass
class _Checked:
    """The faults of an output, and what was read of it."""

    damage: list[str] = field(default_factory=list)
    samples: int = 0
    tokens: int = 0
    first_segments: list[np.ndarray] = field(default_factory=list)


def verify(place: str, screen: Screen) -> list[str]:
    """Check a prepared folder or URL; returns one sentence for each fault, with the file's name.

    Checks the sha256 of the tokenizer, every index and every shard, the numbers of samples and tokens, that segments
    fit the sequence length and that ids fit the vocabulary. Prints some decoded segments of each intact output.

    Raises:
        DataError: no manifest, or a damaged one.
    """
    with open_prepared(place) as prepared:
        damage = _check_tokenizer(prepared)
        tokenizer = None if damage else prepared.tokenizer()
        outputs = prepared.manifest.outputs
        with screen.stage("verify", sum(len(output.shards) for output in outputs.values()), "shard") as progress:
            for name, output in outputs.items():
                checked = _check_output(prepared, name, output, progress)
                damage += checked.damage
                if not checked.damage:
                    screen.say(f"{name}: {len(output.shards)} shards, {output.samples:,} segments, intact")
                    if tokenizer is not None:
                        _show(tokenizer, checked.first_segments, screen)
    return damage


def _check_tokenizer(prepared: Prepared) -> list[str]:
    described = prepared.manifest.tokenizer
    try:
        data = prepared.read(described.file)
    except DataError as error:
        return [str(error)]
    if hashlib.sha256(data).hexdigest() != described.sha256:
        return [f"{described.file} is damaged: its sha256 is not the manifest's"]
    return []


def _check_output(prepared: Prepared, name: str, output: OutputEntry, progress: Callable[[int], None]) -> _Checked:
    checked = _Checked()
    try:
        if hashlib.sha256(prepared.read(f"{name}/index.json")).hexdigest() != output.index_sha256:
            checked.damage.append(f"{name}/index.json is damaged: its sha256 is not the manifest's")
        entries = prepared.index(name)
    except DataError as error:
        checked.damage.append(str(error))
        return checked
    if len(entries) != len(output.shards):
        checked.damage.append(f"{name}/index.json lists {len(entries)} shards, the manifest {len(output.shards)}")
        return checked
    for number, (entry, shard) in enumerate(zip(entries, output.shards)):
        file = f"{name}/{shard.file}"
        try:
            segments = _read_checked(prepared, file, name_shard(entry, number), shard)
            _check_segments(segments, file, _capacity(name), prepared.manifest.tokenizer.vocab_size)
        except DataError as error:
            checked.damage.append(str(error))
        else:
            checked.samples += len(segments)
            checked.tokens += sum(map(len, segments))
            checked.first_segments = checked.first_segments or segments[:_SHOWN]
        progress(1)
    if not checked.damage and (checked.samples, checked.tokens) != (output.samples, output.tokens):
        checked.damage.append(
            f"{name} holds {checked.samples} segments of {checked.tokens} tokens, the manifest says "
            f"{output.samples} of {output.tokens}"
        )
    return checked


def _show(tokenizer: Tokenizer, segments: list[np.ndarray], screen: Screen) -> None:
    for segment in segments:
        text = tokenizer.decode(segment.tolist(), skip_special_tokens=False)
        screen.say(f"  {text[:_SHOWN_CHARACTERS]!r}")


def _capacity(name: str) -> int:
    parsed = parse_dataset_name(name)
    assert parsed is not None, "the manifest was checked"
    return parsed[0] - 2


def _read_checked(prepared: Prepared, file: str, entry: dict[str, Any], shard: ShardEntry) -> list[np.ndarray]:
    data = prepared.read(file)
    if len(data) != shard.bytes or hashlib.sha256(data).hexdigest() != shard.sha256:
        raise DataError(f"{file} is damaged: its bytes are not those that were written")
    return read_shard(data, entry)


def _check_segments(segments: list[np.ndarray], file: str, capacity: int, vocab_size: int) -> None:
    for number, segment in enumerate(segments):
        if not 0 < len(segment) <= capacity:
            raise DataError(f"{file}: segment {number} has {len(segment)} tokens, not 1 to {capacity}")
        low, high = int(segment.min()), int(segment.max())
        if low < 0 or high >= vocab_size:
            wrong = low if low < 0 else high
            raise DataError(f"{file}: segment {number} has id {wrong}, the vocabulary ends at {vocab_size - 1}")
