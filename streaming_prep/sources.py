"""Scan the corpus files before a build: checksums, chunks, and notes for the user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from streaming_prep.chunks import Scan, scan
from streaming_prep.cleaners import CLEANERS
from streaming_prep.corpus_files import name_files
from streaming_prep.discover import Source, discover, notes_on
from streaming_prep.jobs.base import Engine
from streaming_prep.screen import Screen
from streaming_prep.settings import BuildSettings


@dataclass(frozen=True)
class ScannedSource:
    """A corpus file and what one pass over its bytes found."""

    source: Source
    scan: Scan

    def described(self) -> dict[str, str | int]:
        """Its entry in the manifest, without the counts of words and tokens."""
        source = self.source
        return {
            "corpus": source.corpus,
            "split": source.split,
            "file": source.file,
            "cleaner": source.cleaner,
            "sha256": self.scan.sha256,
            "bytes": self.scan.bytes,
        }


def scan_sources(settings: BuildSettings, engine: Engine, screen: Screen) -> list[ScannedSource]:
    """Find the corpus files, compute their checksums and find where to cut them into chunks.

    Raises:
        ConfigError, DataError: see `discover` and `scan`.
    """
    sources = discover(settings.corpus, settings.cleaner, settings.dev)
    for note in notes_on([*settings.corpus, *settings.dev], sources, settings.cleaner):
        screen.say(note)
    with screen.stage("scan", len(sources), "file") as progress:
        scans: dict[int, Scan] = {}
        tasks = [(source, settings.errors, settings.chunk_bytes, settings.max_line_bytes) for source in sources]
        for index, result in engine(_scan, tasks):
            scans[index] = result
            progress(1)
    scanned = [ScannedSource(source, scans[index]) for index, source in enumerate(sources)]
    same = _same_content(scanned)
    if same:
        screen.say(f"files of the same content, all read: {name_files(same)}; if one is a copy, remove it")
    return scanned


def _scan(task: tuple[Source, str, int, int]) -> Scan:
    source, errors, chunk_bytes, max_line = task
    # Each row of a .jsonl is cleaned by itself, so any line may begin a chunk.
    may_cut = CLEANERS["none" if source.form == "jsonl" else source.cleaner].may_cut
    return scan(source.path, may_cut, errors, chunk_bytes, max_line)


def _same_content(sources: Sequence[ScannedSource]) -> list[Path]:
    """The first group of files with equal bytes; empty if all files differ."""
    groups: dict[str, list[Path]] = {}
    for scanned in sources:
        groups.setdefault(scanned.scan.sha256, []).append(scanned.source.path)
    return next((paths for paths in groups.values() if len(paths) > 1), [])
