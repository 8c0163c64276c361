"""Is a prepared folder what its manifest says: every byte, every count, every id?"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from elc_composer.common.errors import DataError
from streaming_prep.mds_shards import name_shard, read_shard
from streaming_prep.reading import Prepared, open_prepared
from streaming_prep.screen import Screen

_SHOWN = 2


def verify(place: str, screen: Screen) -> list[str]:
    """Check a prepared folder or URL; one sentence for each thing that is wrong, naming the file.

    Checks the sha256 of every shard, index and the tokenizer, the number of samples and tokens, that segments fit
    the sequence length and ids the vocabulary, and shows a few segments decoded. Raises `DataError` without manifest.
    """
    with open_prepared(place) as prepared:
        damage = _check_tokenizer(prepared)
        outputs = prepared.manifest["outputs"]
        with screen.stage("verify", sum(len(output["shards"]) for output in outputs.values()), "shard") as progress:
            for name, output in outputs.items():
                found = _check_output(prepared, name, output, progress, screen, show=not damage)
                damage += found
                if not found:
                    screen.say(f"{name}: {len(output['shards'])} shards, {output['samples']:,} segments, as written")
    return damage


def _check_tokenizer(prepared: Prepared) -> list[str]:
    described = prepared.manifest["tokenizer"]
    try:
        data = prepared.read(described["file"])
    except DataError as error:
        return [str(error)]
    if hashlib.sha256(data).hexdigest() != described["sha256"]:
        return [f"{described['file']} is damaged: its sha256 is not the manifest's"]
    return []


def _check_output(
    prepared: Prepared, name: str, output: dict[str, Any], progress: Any, screen: Screen, show: bool
) -> list[str]:
    damage: list[str] = []
    try:
        if hashlib.sha256(prepared.read(f"{name}/index.json")).hexdigest() != output["index_sha256"]:
            damage.append(f"{name}/index.json is damaged: its sha256 is not the manifest's")
        entries = prepared.index(name)
    except DataError as error:
        return [*damage, str(error)]
    if len(entries) != len(output["shards"]):
        return [*damage, f"{name}/index.json lists {len(entries)} shards, the manifest {len(output['shards'])}"]
    tokens = samples = 0
    capacity = int(name.split("/")[0].removeprefix("seq_")) - 2
    for number, (entry, shard) in enumerate(zip(entries, output["shards"])):
        try:
            segments = _read_checked(prepared, f"{name}/{shard['file']}", name_shard(entry, number), shard)
            _check_segments(segments, f"{name}/{shard['file']}", capacity, prepared.manifest["tokenizer"]["vocab_size"])
        except DataError as error:
            damage.append(str(error))
        else:
            samples += len(segments)
            tokens += sum(map(len, segments))
            if show and number == 0:
                _show(prepared, segments, screen)
        progress(1)
    if not damage and (samples, tokens) != (output["samples"], output["tokens"]):
        damage.append(
            f"{name} holds {samples} segments of {tokens} tokens, the manifest says {output['samples']} of "
            f"{output['tokens']}"
        )
    return damage


def _read_checked(prepared: Prepared, file: str, entry: dict[str, Any], shard: dict[str, Any]) -> list[np.ndarray]:
    data = prepared.read(file)
    if len(data) != shard["bytes"] or hashlib.sha256(data).hexdigest() != shard["sha256"]:
        raise DataError(f"{file} is damaged: its bytes are not those that were written")
    return read_shard(data, entry)


def _check_segments(segments: list[np.ndarray], file: str, capacity: int, vocab_size: int) -> None:
    for number, segment in enumerate(segments):
        if not 0 < len(segment) <= capacity:
            raise DataError(f"{file}: segment {number} has {len(segment)} tokens, not 1 to {capacity}")
        if int(segment.max()) >= vocab_size:
            raise DataError(f"{file}: segment {number} has id {segment.max()}, the vocabulary ends at {vocab_size - 1}")


def _show(prepared: Prepared, segments: list[np.ndarray], screen: Screen) -> None:
    tokenizer = prepared.tokenizer()
    for segment in segments[:_SHOWN]:
        screen.say(f"  {tokenizer.decode(segment.tolist(), skip_special_tokens=False)[:110]!r}")
