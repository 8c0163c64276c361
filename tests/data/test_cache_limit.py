"""A cache limit works with the same batches, or is refused with the smallest limit that works."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from elc_composer.common.errors import ConfigError
from elc_composer.data import DataConfig, MaskingConfig, StreamConfig, build_train_loader
from elc_composer.data.streaming.cache_limit import check_cache_limit
from tests.data.prepared import TOKENS, write_split

SAMPLES, BATCH = 400, 4


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("prepared")
    write_split(root, SAMPLES)
    return root


def ids(prepared: Path, cache: Path, limit: str | None, workers: int) -> list[list[int]]:
    config = DataConfig(
        streams=[StreamConfig(remote=str(prepared), local=str(cache))],
        num_workers=workers,
        predownload=4,
        shuffle_block_size=40,
        cache_limit=limit,
        download_retry=1,
    )
    spec = build_train_loader(config, MaskingConfig(), TOKENS, seq_length=16, device_batch_size=BATCH, seed=1)
    try:
        return [batch["sample_ids"].tolist() for _ in range(2) for batch in spec.dataloader]
    finally:
        spec.dataloader.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_the_smallest_limit_that_the_error_names_works(prepared: Path, tmp_path: Path, workers: int) -> None:
    shards = list((prepared / "seq_16" / "train").glob("*.mds*"))
    message = r"data\.cache_limit is 12,288 bytes, but .* set at least [\d,]+ bytes"
    with pytest.raises(ConfigError, match=message) as no:
        ids(prepared, tmp_path / "cache", "12kb", workers)
    least = re.search(r"at least ([\d,]+) bytes", str(no.value))[1].replace(",", "")
    found = ids(prepared, tmp_path / "cache", f"{least}b", workers)
    assert found == ids(prepared, tmp_path / "whole", None, workers)
    kept = [path.stat().st_size for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert sum(kept) <= int(least)
    assert len(kept) < len(shards), "some had to go"
    assert len(np.unique(np.concatenate(found))) > SAMPLES - 4 * BATCH


def fake(limit: int, *, in_place: bool = False, **changes: Any) -> Any:
    """A dataset of 50 cached shards of 10 samples and 100 bytes, with an index of 10 bytes."""
    streams = [SimpleNamespace(in_place=in_place, get_index_size=lambda: 10)]
    settings = {"shuffle": True, "shuffle_algo": "py1e", "shuffle_block_size": 40, "num_canonical_nodes": 1}
    return SimpleNamespace(
        cache_limit=limit,
        streams=streams,
        stream_per_shard=[0] * 50,
        shards=[SimpleNamespace(get_max_size=lambda: 100)] * 50,
        samples_per_shard=np.full(50, 10),
        num_shards=50,
        **{**settings, "predownload": 4, "batch_size": 4, **changes},
    )


@pytest.mark.parametrize(
    ("workers", "changes", "least"),
    [
        # Two workers read up to 2 * 2 * (4 + 2 * 4) = 48 samples ahead, beside a block of 40: 8.8 shards, and 2 that
        # the ends of the block share with its neighbours; each worker downloads one more.
        (2, {}, 10 + 100 * (10 + 2)),
        (0, {}, 10 + 100 * (8 + 1)),
        (2, {"shuffle": False}, 10 + 100 * (6 + 2)),
        (0, {"shuffle": False, "predownload": 1, "batch_size": 1, "num_canonical_nodes": 0}, 10 + 100 * 4),
        (2, {"shuffle_algo": "py1s"}, 10 + 100 * 50),
        (1, {"shuffle_algo": "py2s", "predownload": 1, "batch_size": 1}, 10 + 100 * (6 + 1)),
    ],
)
def test_the_room_that_is_needed(workers: int, changes: dict[str, Any], least: int) -> None:
    check_cache_limit(fake(least, **changes), workers)
    with pytest.raises(ConfigError, match=rf"set at least {least:,} bytes"):
        check_cache_limit(fake(least - 1, **changes), workers)
    check_cache_limit(fake(1, in_place=True, **changes), workers)


def test_below_streaming_s_own_minimum(prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.cache_limit"):
        ids(prepared, tmp_path / "cache", "50b", 0)


@pytest.mark.parametrize("compression", ["zstd", None])
def test_a_stream_that_is_read_in_place_is_no_cache(tmp_path: Path, compression: str | None) -> None:
    """Beside a stream with a cache that is too small for all of it, whose shards are evicted."""
    for name in ("here", "there"):
        write_split(tmp_path / name, 1000, compression=compression)
    originals = {path: path.read_bytes() for path in (tmp_path / "here").rglob("*.mds*")}
    config = DataConfig(
        streams=[
            StreamConfig(local=str(tmp_path / "here")),
            StreamConfig(remote=str(tmp_path / "there"), local=str(tmp_path / "cache")),
        ],
        num_workers=0,
        predownload=4,
        shuffle_block_size=40,
        cache_limit="64000b",
    )
    spec = build_train_loader(config, MaskingConfig(), TOKENS, seq_length=16, device_batch_size=BATCH, seed=1)
    try:
        assert len(list(spec.dataloader)) == 2000 // BATCH
    finally:
        spec.dataloader.close()
    kept = {path: path.read_bytes() for path in (tmp_path / "here").rglob("*.mds*")}
    assert originals.items() <= kept.items(), "the user's own data"
    cached, whole = (len(list((tmp_path / name).rglob("*.mds*"))) for name in ("cache", "there"))
    assert cached < whole, "some had to go"
