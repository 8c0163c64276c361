"""Progress display of a build: a bar for each stage if stderr is a terminal, and a line for each result."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from streaming_prep.manifest import Manifest


class Screen:
    """Shows the progress of a build; `seconds` holds the wall time of each finished stage."""

    def __init__(self, silent: bool = False) -> None:
        self.silent = silent
        self.seconds: dict[str, float] = {}

    def say(self, line: str) -> None:
        """Print one line, unless silent."""
        if not self.silent:
            tqdm.write(line) if sys.stderr.isatty() else print(line, flush=True)

    @contextmanager
    def stage(self, name: str, total: int, unit: str = "job") -> Iterator[Callable[[int], None]]:
        """Show a bar for the block, which gets a function that advances the bar by a count."""
        began = time.perf_counter()
        # disable=None: show the bar only if stderr is a terminal.
        with tqdm(total=total, desc=f"{name:<14}", unit=unit, disable=self.silent or None) as bar:
            yield lambda count: bar.update(count) and None
        self.seconds[name] = time.perf_counter() - began
        if not sys.stderr.isatty():
            self.say(f"{name:<12}{total:>7,} {unit}s{self.seconds[name]:>9.1f} s")

    def report(self, manifest: Manifest, out: str) -> None:
        """Print a line for each output."""
        words = sum(source.words for source in manifest.sources)
        self.say(
            f"{len(manifest.sources)} files, {words:,} words; vocabulary of {manifest.tokenizer.vocab_size:,} entries"
        )
        for name, output in sorted(manifest.outputs.items()):
            self.say(
                f"{name:<16}{output.samples:>10,} segments {output.tokens:>13,} tokens, utilisation "
                f"{output.utilisation:.1%}, {output.duplication:.2%} of the text repeated, {output.dropped:.2%} dropped"
            )
        self.say(f"prepared data: {out}")
