"""Reads `manifest.json` of the prepared data that a run's config names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from elc_composer.common.json_files import read_json
from elc_composer.prepared.layout import MANIFEST


@dataclass(frozen=True)
class Manifest:
    """Manifest of one stream's prepared data."""

    location: str
    content: dict[str, Any] = field(default_factory=dict)
    problem: str = ""
    """Why there is no content."""


def read_manifests(config: Mapping[str, Any]) -> list[Manifest]:
    """One entry for each stream in `data.streams`; remote and damaged manifests have a problem instead of content."""
    data = config.get("data")
    streams = data.get("streams") if isinstance(data, Mapping) else None
    found = []
    for stream in streams if isinstance(streams, list) else []:
        folder = stream.get("local") or stream.get("remote") if isinstance(stream, Mapping) else None
        if isinstance(folder, str):
            found.append(_read(folder, str(stream.get("remote") or folder)))
    return found


def _read(folder: str, location: str) -> Manifest:
    if "://" in folder:
        return Manifest(location, problem="The data are remote; the report reads local manifests only.")
    try:
        content = read_json(Path(folder) / MANIFEST)
    except ValueError as error:  # a DataError, or Python's ValueError for a path with a null byte
        return Manifest(location, problem=f"{error}.")
    if not _has_shape(content):
        return Manifest(location, problem=f"{Path(folder) / MANIFEST} has an unexpected structure.")
    return Manifest(location, content)


def _has_shape(content: Any) -> bool:
    if not isinstance(content, dict):
        return False
    outputs, sources = content.get("outputs") or {}, content.get("sources") or []
    if not isinstance(outputs, dict) or not isinstance(sources, list):
        return False
    entries = [*outputs.values(), *sources, content.get("tokenizer") or {}, content.get("settings") or {}]
    if not all(isinstance(entry, dict) for entry in entries):
        return False
    return all(isinstance(output.get("shards", []), list) for output in outputs.values())
