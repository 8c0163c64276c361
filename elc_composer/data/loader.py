"""Builds the loaders for training and for the held-out loss, as Composer DataSpecs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from composer.core import DataSpec
from composer.utils import dist
from streaming import StreamingDataLoader
from torch.utils.data import DataLoader, Dataset

from elc_composer.common.errors import DataError
from elc_composer.data.collate import MaskingCollator, Segment
from elc_composer.data.config import DataConfig
from elc_composer.data.masking import IGNORED, MaskingConfig, TokenIds
from elc_composer.data.paths import resolve_all
from elc_composer.data.positions import LabelPositions
from elc_composer.data.streaming.checked_stream import CheckedStream
from elc_composer.data.streaming.dataset import SegmentDataset
from elc_composer.data.workers import StopFlag, close_at_exit, forget

NO_LABELS = 1e-30
"""Weight of a microbatch without labels."""


class WholeEpochLoader(StreamingDataLoader):
    """StreamingDataLoader that raises an error if an epoch has too few batches, and that ends its workers."""

    dataset: SegmentDataset

    def __init__(self, *args: Any, **options: Any) -> None:
        self._stop = StopFlag()
        if options.get("num_workers"):
            options.setdefault("worker_init_fn", self._stop.init_worker)
        super().__init__(*args, **options)

    def _get_iterator(self) -> Any:
        # Private in torch 2.7.0, but the only place between the start of the workers and the first batch: a Ctrl-C in
        # between would leave workers that nobody ends.
        self._stop.clear()
        iterator = super()._get_iterator()
        close_at_exit(self)
        return iterator

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """The epoch's batches.

        Raises:
            DataError: an epoch that ends before its last batch, or a shard that cannot be read.
        """
        batches = 0
        try:
            for batch in super().__iter__():
                batches += 1
                yield batch
        except DataError as error:
            # DataLoader re-raises worker errors with the traceback in the message; keep only its last line.
            raise type(error)(_last_line(error)) from error
        epoch, done = self.dataset.position()
        expected = self.dataset.batches_per_epoch - done
        if batches < expected:
            raise DataError(
                f"{self.dataset.names} ended after {batches} of {expected} batches in epoch {epoch}: "
                "a shard could not be read; the log above says which."
            )

    def close(self) -> None:
        """End the worker processes and the download threads, release the cache folders; may be called twice.

        Called at interpreter exit for every loader that has been iterated.
        """
        self._stop_workers()
        self.dataset.release()
        forget(self)

    def _stop_workers(self) -> None:
        self._stop.set()
        iterator: Any = self._iterator
        self._iterator = None
        if iterator is not None:
            # torch 2.7.0 has no public way to end persistent workers.
            iterator._shutdown_workers()

    def __del__(self) -> None:
        # Overrides StreamingDataLoader's (0.13.0), which does not tell the workers to obey the SIGTERM that torch sends
        # to a worker that is busy for five seconds more. An __init__ that raised leaves no `_iterator`.
        if hasattr(self, "_iterator"):
            self._stop_workers()


class SegmentArray(Dataset[Segment]):
    """Map-style view of a SegmentDataset in stored order, for evaluation, where every sample comes once."""

    def __init__(self, segments: SegmentDataset) -> None:
        self.segments = segments

    def __len__(self) -> int:
        return self.segments.size

    def __getitem__(self, index: int) -> Segment:
        sample = self.segments[index]
        return Segment(input_ids=sample["input_ids"], sample_id=index, epoch=0, step=0)


def count_tokens(batch: dict[str, Any]) -> dict[str, Any]:
    """Tokens of a batch: `total` (without padding, int) and `loss_generating` (labels, float64).

    Composer weights microbatches and ranks by `loss_generating` and divides by its sum over all ranks, which may be 0.
    A count of `NO_LABELS` instead of 0 avoids that division by zero and changes no other weight: added to a count of at
    least 1 it vanishes in float64. The numpy type makes Composer's sum float64 whatever torch's default dtype is. The
    lists of the collator need no device synchronization; other batches are counted on their device.
    """
    if "token_counts" in batch:
        total, labels = sum(batch["token_counts"]), sum(batch["label_counts"])
    else:
        total, labels = int(batch["attention_mask"].sum()), int((batch["labels"] != IGNORED).sum())
    return {"total": total, "loss_generating": np.float64(labels or NO_LABELS)}


def count_samples(batch: dict[str, Any]) -> int:
    """A batch's sequences."""
    return len(batch["input_ids"])


def build_train_loader(
    config: DataConfig,
    masking: MaskingConfig,
    tokens: TokenIds,
    *,
    seq_length: int,
    device_batch_size: int,
    seed: int,
    first_step: int = 0,
    total_steps: int = 1,
    stage: int = 0,
) -> DataSpec:
    """Training batches of one length stage.

    Args:
        config: streams, sample order and downloads.
        masking: how tokens are chosen.
        tokens: special token ids and vocabulary size.
        seq_length: tokens of each sequence in the batches.
        device_batch_size: sequences of an optimizer step on one device (Composer cuts them into microbatches).
        seed: of the run; shuffling (unless `config.shuffle_seed` is set), masks and cuts depend on it.
        first_step: optimizer steps of the run before this stage.
        total_steps: optimizer steps of the run.
        stage: index of the stage, so that two stages of one length get different orders and masks.

    Raises:
        ConfigError: a stream without a folder, an invalid address, or too small a cache limit.
        DataError: streams without a whole batch, missing or damaged shards, or a cache that another run uses.
    """
    shuffle_seed = seed if config.shuffle_seed is None else config.shuffle_seed
    dataset = _open(
        config, tokens, seq_length, config.train_split, device_batch_size, config.shuffle, shuffle_seed + stage
    )
    dataset.check_epoch()
    collator = MaskingCollator(
        seq_length=seq_length,
        masking=masking,
        tokens=tokens,
        seed=_stage_seed(seed, stage),
        first_step=first_step,
        total_steps=total_steps,
        short_p=config.short_p,
        pad_to=config.pad_to,
    )
    workers = {}
    if config.num_workers:
        workers = {
            "prefetch_factor": config.prefetch_factor,
            "persistent_workers": True,
            "timeout": config.batch_timeout,
        }
    loader = WholeEpochLoader(
        dataset,
        batch_size=device_batch_size,
        collate_fn=collator,
        num_workers=config.num_workers,
        pin_memory=torch.cuda.is_available(),
        drop_last=True,
        **workers,
    )
    return _data_spec(loader, masking)


def build_eval_loader(
    config: DataConfig,
    masking: MaskingConfig,
    tokens: TokenIds,
    *,
    seq_length: int,
    device_batch_size: int,
    seed: int,
) -> DataSpec:
    """Held-out batches: every sample once over all ranks, in order, uncut, always with the same masks."""
    segments = _open(config, tokens, seq_length, config.eval_split, device_batch_size, shuffle=False, seed=0)
    dataset = SegmentArray(segments)
    loader = DataLoader(
        dataset,
        batch_size=device_batch_size,
        sampler=dist.get_sampler(dataset, shuffle=False, drop_last=False),
        collate_fn=MaskingCollator(
            seq_length=seq_length, masking=masking, tokens=tokens, seed=seed, pad_to=config.pad_to, fixed=True
        ),
        pin_memory=torch.cuda.is_available(),
    )
    return _data_spec(loader, masking)


def _data_spec(loader: DataLoader[Any], masking: MaskingConfig) -> DataSpec:
    return DataSpec(
        loader,
        split_batch=LabelPositions(masking, pin=torch.cuda.is_available()),
        get_num_samples_in_batch=count_samples,
        get_num_tokens_in_batch=count_tokens,
    )


def _open(
    config: DataConfig,
    tokens: TokenIds,
    seq_length: int,
    split: str,
    device_batch_size: int,
    shuffle: bool,
    seed: int,
) -> SegmentDataset:
    streams = [
        CheckedStream(
            remote=place.remote,
            local=place.local,
            split=place.split,
            proportion=stream.proportion,
            repeat=stream.repeat,
            choose=stream.choose,
        )
        for place, stream in zip(resolve_all(config, seq_length, split), config.streams)
    ]
    return SegmentDataset(
        streams=streams,
        batch_size=device_batch_size,
        workers=config.num_workers,
        outage_tolerance=config.outage_tolerance,
        vocab_size=tokens.vocab_size,
        seq_length=seq_length,
        shuffle=shuffle,
        shuffle_seed=seed,
        shuffle_algo=config.shuffle_algo,
        shuffle_block_size=config.shuffle_block_size,
        num_canonical_nodes=config.num_canonical_nodes,
        epoch_size=config.epoch_size,
        predownload=config.predownload,
        cache_limit=config.cache_limit,
        keep_zip=config.keep_zip,
        validate_hash=config.validate_hash,
        download_retry=config.download_retry,
        download_timeout=config.download_timeout,
    )


def _last_line(error: DataError) -> str:
    *before, last = str(error).strip().splitlines()
    return re.sub(r"^[\w.]+: ", "", last) if before else last


def _stage_seed(seed: int, stage: int) -> int:
    return seed + (stage << 48)
