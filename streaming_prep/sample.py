"""Print random segments of a prepared folder as text."""

from __future__ import annotations

import random

from elc_composer.common.errors import ConfigError
from streaming_prep.reading import open_prepared


def print_sample(place: str, output: str | None, count: int, seed: int) -> None:
    """Print `count` random segments of an output such as `seq_128/train`; the same seed gives the same segments."""
    if count < 1:
        raise ConfigError(f"--count is {count}, must be at least 1")
    with open_prepared(place) as prepared:
        name = prepared.choose(output)
        total = sum(entry["samples"] for entry in prepared.index(name))
        wanted = set(random.Random(seed).sample(range(total), min(count, total)))
        tokenizer = prepared.tokenizer()
        first = 0
        for number, entry in enumerate(prepared.index(name)):
            own = sorted(index for index in wanted if first <= index < first + entry["samples"])
            if own:
                segments = prepared.shard(name, number)
                for index in own:
                    ids = segments[index - first].tolist()
                    print(f"--- {name} segment {index}, {len(ids)} tokens")
                    print(tokenizer.decode(ids, skip_special_tokens=False))
            first += entry["samples"]
