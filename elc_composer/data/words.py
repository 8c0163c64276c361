"""Estimates the raw-text words of one epoch from the manifests of the streams."""

from __future__ import annotations

from pathlib import Path

from elc_composer.common.addresses import is_address, local_path
from elc_composer.common.errors import DataError
from elc_composer.common.json_files import parse_json, read_json
from elc_composer.common.storage import fetch
from elc_composer.data.config import DataConfig, StreamConfig
from elc_composer.data.streaming.dataset import SegmentDataset
from elc_composer.prepared.layout import MANIFEST


def words_per_epoch(config: DataConfig, dataset: SegmentDataset) -> float | None:
    """Estimated words of an epoch; None if a stream has no readable manifest.

    A sample counts as the mean number of words per sample of its stream: words of the raw train files divided by
    samples. Packing that repeats text, and words lost in cleaning, are not counted apart.
    """
    total = 0.0
    for stream, own, samples in zip(config.streams, dataset.streams, dataset.samples_per_stream):
        words = _words(stream, stream.split or config.train_split)
        if words is None or not samples:
            return None
        total += words * own.choose / int(samples)
    return total


def _words(stream: StreamConfig, split: str) -> int | None:
    root = local_path(stream.remote or stream.local or "").rstrip("/")
    try:
        if is_address(root):
            manifest = parse_json(fetch(f"{root}/{MANIFEST}"), root)
        else:
            manifest = read_json(Path(root) / MANIFEST)
        return sum(source["words"] for source in manifest["sources"] if source["split"] == split)
    except (DataError, KeyError, TypeError):  # data prepared by other means can be trained on as well
        return None
