"""Caches of shards: what is checked, kept, evicted and counted, with packed and unpacked shards."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from composer.core import DataSpec

from elc_composer.common.errors import ConfigError, DataError
from elc_composer.data import DataConfig, MaskingConfig, StreamConfig, build_train_loader
from elc_composer.data.streaming.dataset import SegmentDataset
from tests.data.prepared import TOKENS, write_split

SAMPLES, BATCH = 400, 4
OPEN: list[DataSpec] = []


@pytest.fixture(autouse=True)
def loaders_end_with_their_test() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().dataloader.close()


@pytest.fixture(scope="module", params=["zstd", None], ids=["packed", "unpacked"])
def remote(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("remote")
    write_split(root, SAMPLES, compression=request.param)
    return root


def open_loader(*streams: StreamConfig, **options: Any) -> Any:
    settings = {"num_workers": 0, "download_retry": 1, "predownload": 4, "shuffle_block_size": 40, **options}
    data = DataConfig(streams=list(streams), **settings)
    OPEN.append(build_train_loader(data, MaskingConfig(), TOKENS, seq_length=16, device_batch_size=BATCH, seed=1))
    return OPEN[-1].dataloader


def ids_of_an_epoch(*streams: StreamConfig, **options: Any) -> list[list[int]]:
    loader = open_loader(*streams, **options)
    ids = [batch["sample_ids"].tolist() for batch in loader]
    loader.close()
    return ids


def shards(folder: Path) -> set[str]:
    return {path.name for path in (folder / "seq_16" / "train").iterdir()} - {"index.json"}


def test_a_shard_that_is_damaged_at_its_source_does_not_stay_in_the_cache(remote: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(remote, damaged)
    shard = sorted((damaged / "seq_16" / "train").glob("*.mds*"))[2]
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DataError, match=rf"{shard.name}.*Checksum"):
        ids_of_an_epoch(StreamConfig(remote=str(damaged), local=str(tmp_path / "cache")))
    raw = shard.name.removesuffix(".zstd")
    assert not [name for name in shards(tmp_path / "cache") if name.startswith(raw)]


@pytest.mark.parametrize("keep_zip", [True, False])
def test_packed_shards_stay_in_the_cache_only_with_keep_zip(remote: Path, tmp_path: Path, keep_zip: bool) -> None:
    stream = StreamConfig(remote=str(remote), local=str(tmp_path / "cache"))
    ids = ids_of_an_epoch(stream, keep_zip=True)
    both = shards(tmp_path / "cache")
    expected = both if keep_zip else {name.removesuffix(".zstd") for name in both}
    loader = open_loader(stream, keep_zip=keep_zip)
    # Streaming 0.13.0 itself removes the unpacked shard instead, which would have to be unpacked again.
    assert {name.removesuffix(".unchecked") for name in shards(tmp_path / "cache")} == expected
    assert [batch["sample_ids"].tolist() for batch in loader] == ids
    assert shards(tmp_path / "cache") == expected


def test_shards_of_an_earlier_run_are_evicted_before_their_first_use(remote: Path, tmp_path: Path) -> None:
    """They wait under another name until they are checked; eviction must find and remove them all the same."""
    stream = StreamConfig(remote=str(remote), local=str(tmp_path / "cache"))
    ids = ids_of_an_epoch(stream)
    whole = shards(tmp_path / "cache")
    index = (tmp_path / "cache" / "seq_16" / "train" / "index.json").stat().st_size
    # Streaming evicts only where a shard has to be downloaded.
    (tmp_path / "cache" / "seq_16" / "train" / "shard.00007.mds").unlink()
    limit = index + 14_000
    assert ids_of_an_epoch(stream, cache_limit=f"{limit}b") == ids
    left = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in left) <= limit
    assert {path.name.removesuffix(".unchecked") for path in left if path.name != "index.json"} < whole


def test_shards_that_are_read_in_place_do_not_count_as_cache(remote: Path, tmp_path: Path) -> None:
    write_split(tmp_path / "here", SAMPLES, compression=None)
    cached = StreamConfig(remote=str(remote), local=str(tmp_path / "cache"))
    alone = open_loader(cached, cache_limit="1gb").dataset
    empty = alone.cache_usage
    OPEN.pop().dataloader.close()
    mixed: SegmentDataset = open_loader(StreamConfig(local=str(tmp_path / "here")), cached, cache_limit="1gb").dataset
    indexes = sum(stream.get_index_size() for stream in mixed.streams)
    assert mixed.cache_usage - indexes == empty - alone.streams[0].get_index_size() == 0


def test_two_streams_cannot_share_a_cache(remote: Path, tmp_path: Path) -> None:
    stream = StreamConfig(remote=str(remote), local=str(tmp_path / "cache"))
    with pytest.raises(ConfigError, match=rf"two streams have the cache {tmp_path}/cache/seq_16/train"):
        open_loader(stream, stream)
    in_place = StreamConfig(local=str(remote))
    assert open_loader(in_place, in_place).dataset.epoch_size == 2 * SAMPLES


def test_downloads_ahead_end_with_the_iteration_and_with_close(remote: Path, tmp_path: Path) -> None:
    loader = open_loader(StreamConfig(remote=str(remote), local=str(tmp_path / "cache")))
    samples = iter(loader.dataset)
    next(samples)
    downloads = loader.dataset._iterator
    assert not downloads.should_exit()
    samples.close()
    assert downloads.should_exit()
    suspended = iter(loader)
    next(suspended)
    downloads = loader.dataset._iterator
    assert not downloads.should_exit()
    loader.close()
    assert downloads.should_exit()
