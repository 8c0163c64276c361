"""Words of an epoch, from the manifests of the streams."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from elc_composer.data import DataConfig, MaskingConfig, StreamConfig, build_train_loader
from elc_composer.data.words import words_per_epoch
from tests.data.prepared import TOKENS, write_split

SOURCES = [
    {"split": "train", "words": 700},
    {"split": "train", "words": 300},
    {"split": "dev", "words": 90},
]


def words(*streams: StreamConfig) -> float | None:
    config = DataConfig(streams=list(streams), num_workers=0)
    spec = build_train_loader(config, MaskingConfig(), TOKENS, seq_length=16, device_batch_size=2, seed=1)
    with closing(spec.dataloader):  # type: ignore[type-var]
        return words_per_epoch(config, spec.dataloader.dataset)  # type: ignore[union-attr, arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_split(tmp_path, 20)
    (tmp_path / "manifest.json").write_text(json.dumps({"sources": SOURCES}))
    return tmp_path


def test_an_epoch_has_the_words_of_the_train_files(folder: Path) -> None:
    assert words(StreamConfig(local=str(folder))) == 1000


@pytest.mark.parametrize(("weight", "expected"), [({"repeat": 2.0}, 2000), ({"choose": 5}, 250)])
def test_words_follow_the_share_of_a_stream(folder: Path, weight: dict, expected: float) -> None:
    assert words(StreamConfig(local=str(folder), **weight)) == expected


@pytest.mark.parametrize("manifest", [None, "[]", '{"sources": [{"split": "train"}]}', "{"])
def test_no_figure_without_a_readable_manifest(folder: Path, manifest: str | None) -> None:
    if manifest is None:
        (folder / "manifest.json").unlink()
    else:
        (folder / "manifest.json").write_text(manifest)
    assert words(StreamConfig(local=str(folder))) is None
