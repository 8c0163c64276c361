"""Cost of streaming in a training step: from S3 (a moto server), local shards, and tensors in memory.

python -m benchmarks.overhead [--rounds 24] [--hidden-size 256] [--out benchmarks/results/overhead.json]

One process trains a model on the CPU. All sources are open at once, each with one loader process that prefetches, as
in a run. They take turns in blocks of a few steps, in another order each round, so that a slower minute of the machine
affects all. The first steps of a block, whose batches were prefetched in the block before, are left out. A source is
compared with memory within each round; the result is the median over the rounds, with quartiles. A step's data wait is
the time until its batch arrives. One S3 source starts with an empty cache, the other with a full one.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.loader import TOKENS, write
from benchmarks.machine import describe_machine
from elc_composer.data import DataConfig, MaskingConfig, StreamConfig, build_train_loader
from elc_composer.model import ElcConfig, ElcForMaskedLM
from tests.faults.s3 import CREDENTIALS, local_s3

SEQ_LENGTH = 128
SHARD_BYTES = 1 << 14
READY = 2
"""Batches that a loader process holds ready."""
MEMORY = "tensors in memory"
Batch = dict[str, Any]


def serve(pipe: Connection, folder: Path) -> None:
    """The bucket, in a process of its own."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with local_s3() as s3:
        pipe.send((s3.upload(folder, "data"), s3.url))
        pipe.recv()


def loader(place: StreamConfig, batch: int, steps: int) -> Any:
    config = DataConfig(streams=[place], num_workers=1, prefetch_factor=READY)
    return build_train_loader(
        config, MaskingConfig(), TOKENS, seq_length=SEQ_LENGTH, device_batch_size=batch, seed=0, total_steps=steps
    ).dataloader


def sources(folder: Path, remote: str, batch: int, steps: int, open_loaders: list[Any]) -> dict[str, Iterator[Batch]]:
    """Each gives `steps` batches."""
    filled = StreamConfig(remote=remote, local=str(folder / "filled"))
    filling = loader(filled, batch, steps)
    in_memory = list(filling)[:steps]
    filling.close()
    places = {
        "local shards": StreamConfig(local=str(folder / "data")),
        "S3, empty cache": StreamConfig(remote=remote, local=str(folder / "empty")),
        "S3, full cache": filled,
    }
    open_loaders += [loader(place, batch, steps) for place in places.values()]
    return {MEMORY: iter(in_memory), **{name: iter(found) for name, found in zip(places, open_loaders)}}


def train(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, batches: Iterator[Batch], steps: int
) -> list[tuple[float, float]]:
    """Seconds of each step, its wait for data included, and of this wait."""
    found = []
    for _ in range(steps):
        began = time.perf_counter()
        batch = next(batches)
        ready = time.perf_counter()
        loss = model(batch["input_ids"], batch["attention_mask"], batch["labels"]).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        found.append((time.perf_counter() - began, ready - began))
    return found


def summarize(rounds: dict[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """Medians and quartiles of each source from its `[rounds, steps of a block, 2]` seconds: whole step, and wait."""
    typical = {name: np.median(seconds[:, :, 0], axis=1) for name, seconds in rounds.items()}
    result = {}
    for name, seconds in rounds.items():
        low, middle, high = np.percentile(typical[name] / typical[MEMORY] - 1, [25, 50, 75])
        whole, waits = seconds[:, :, 0], seconds[:, :, 1]
        result[name] = {
            "median_milliseconds_per_step": round(1e3 * float(np.median(whole)), 2),
            "over_memory": round(float(middle), 4),
            "over_memory_quartiles": [round(float(low), 4), round(float(high), 4)],
            "data_wait_share": round(float(waits.sum() / whole.sum()), 5),
            "longest_wait_milliseconds": round(1e3 * float(waits.max()), 2),
        }
    return result


def measure(folder: Path, rounds: int, block: int, batch: int, hidden_size: int) -> dict[str, Any]:
    steps = rounds * block
    # Small shards, so that a new one is needed every few steps instead of every few thousand.
    write(folder / "data", (steps + 1) * batch, SEQ_LENGTH, shard_bytes=SHARD_BYTES)
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs, folder / "data"), daemon=True)
    server.start()
    remote, os.environ["S3_ENDPOINT_URL"] = ours.recv()
    torch.manual_seed(0)
    config = ElcConfig(
        vocab_size=TOKENS.vocab_size,
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=4,
        num_attention_heads=4,
    )
    model = ElcForMaskedLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    open_loaders: list[Any] = []
    streams = sources(folder, remote, batch, steps, open_loaders)
    names = list(streams)
    found: dict[str, list[list[tuple[float, float]]]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            found[name].append(train(model, optimizer, streams[name], block)[READY + 1 :])
        shown = ", ".join(f"{name} {1e3 * np.median(found[name][-1], axis=0)[0]:.0f} ms" for name in names)
        print(f"round {number + 1} of {rounds}: {shown}", flush=True)
    for each in open_loaders:
        each.close()
    ours.send(None)
    server.join(10)
    return {
        "parameters": model.num_parameters(),
        "batch": [batch, SEQ_LENGTH],
        "rounds": rounds,
        "measured_steps_of_each_source": rounds * (block - READY - 1),
        "shards": len(list((folder / "data").rglob("*.mds"))),
        "sources": summarize({name: np.array(seconds) for name, seconds in found.items()}),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--hidden-size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--block", type=int, default=8, help=f"steps of a turn; the first {READY + 1} are left out")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/overhead.json"))
    options = parser.parse_args()
    if options.block <= READY + 1 or options.rounds < 1:
        parser.error(f"--block must be above {READY + 1} and --rounds at least 1")
    os.environ.update(CREDENTIALS)
    torch.set_num_threads(1)
    load = round(os.getloadavg()[0], 2)
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(Path(folder), options.rounds, options.block, options.batch, options.hidden_size)
    result = {"machine": describe_machine(), "load_average_before": load, **measured}
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
