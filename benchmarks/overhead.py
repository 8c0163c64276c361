"""What streaming costs a training step: from S3 (a moto server), from local shards, and from tensors in memory.

python -m benchmarks.overhead [--steps 40] [--hidden-size 256] [--out benchmarks/results/overhead.json]

One process trains a model on the CPU with each source in turn, in rounds, so that a slower minute of the machine hits
all of them. A step's data wait is the time until its batch is there; one loader process works ahead, as in a run. The
first source of S3 has an empty cache in every round, the second finds the cache full.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch

from benchmarks.loader import TOKENS, write
from benchmarks.machine import describe_machine
from elc_composer.data import DataConfig, MaskingConfig, StreamConfig, build_train_loader
from elc_composer.model import ElcConfig, ElcForMaskedLM
from tests.faults.s3 import CREDENTIALS, local_s3

SEQ_LENGTH = 128
SHARD_BYTES = 1 << 14
Batches = Callable[[], Iterator[dict]]


def serve(pipe: Connection, folder: Path) -> None:
    """The bucket, in a process of its own."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with local_s3() as s3:
        pipe.send((s3.upload(folder, "data"), s3.url))
        pipe.recv()


def stream(config: DataConfig, batch: int, steps: int) -> Iterator[dict]:
    loader = build_train_loader(
        config, MaskingConfig(), TOKENS, seq_length=SEQ_LENGTH, device_batch_size=batch, seed=0, total_steps=steps
    ).dataloader
    try:
        yield from loader
    finally:
        loader.close()


def sources(local: Path, remote: str, cache: Path, batch: int, steps: int) -> dict[str, Batches]:
    def from_s3(empty: bool) -> Iterator[dict]:
        if empty:
            shutil.rmtree(cache, ignore_errors=True)
        place = StreamConfig(remote=remote, local=str(cache))
        return stream(DataConfig(streams=[place], num_workers=1), batch, steps)

    def from_shards() -> Iterator[dict]:
        return stream(DataConfig(streams=[StreamConfig(local=str(local))], num_workers=1), batch, steps)

    in_memory = [found for found, _ in zip(from_shards(), range(steps + 1))]
    return {
        "tensors in memory": lambda: iter(in_memory),
        "local shards": from_shards,
        "S3, empty cache": lambda: from_s3(empty=True),
        "S3, full cache": lambda: from_s3(empty=False),
    }


def train(model: torch.nn.Module, batches: Iterator[dict], steps: int) -> tuple[list[float], list[float]]:
    """Seconds of each step, and of its wait for data; the first step, which starts the loader, is left out."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    whole, waits = [], []
    began = time.perf_counter()
    for batch in batches:
        ready = time.perf_counter()
        loss = model(batch["input_ids"], batch["attention_mask"], batch["labels"]).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        ended = time.perf_counter()
        whole.append(ended - began)
        waits.append(ready - began)
        began = ended
        if len(whole) > steps:
            break
    batches.close() if hasattr(batches, "close") else None
    return whole[1:], waits[1:]


def measure(folder: Path, steps: int, batch: int, hidden_size: int, rounds: int) -> dict:
    samples = (steps + 2) * batch
    # Small shards, so that a few steps need a new one, as thousands of steps do of real ones.
    write(folder / "data", samples, SEQ_LENGTH, shard_bytes=SHARD_BYTES)
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
    found: dict[str, tuple[list[float], list[float]]] = {}
    for _ in range(rounds):
        for name, batches in sources(folder / "data", remote, folder / "cache", batch, steps).items():
            whole, waits = train(model, batches(), steps)
            found.setdefault(name, ([], []))[0].extend(whole)
            found[name][1].extend(waits)
            print(
                f"{name}: {np.mean(whole):.3f} s a step, {np.sum(waits) / np.sum(whole):.2%} of it waiting", flush=True
            )
    ours.send(None)
    server.join(10)
    base = float(np.mean(found["tensors in memory"][0]))
    return {
        "parameters": model.num_parameters(),
        "batch": [batch, SEQ_LENGTH],
        "steps": steps * rounds,
        "shards": len(list((folder / "data").rglob("*.mds"))),
        "sources": {
            name: {
                "milliseconds_per_step": round(1e3 * float(np.mean(whole)), 2),
                "median_milliseconds_per_step": round(1e3 * float(np.median(whole)), 2),
                "over_memory": round(float(np.mean(whole)) / base - 1, 4),
                "data_wait_share": round(float(np.sum(waits) / np.sum(whole)), 5),
                "longest_wait_milliseconds": round(1e3 * max(waits), 2),
            }
            for name, (whole, waits) in found.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--hidden-size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/overhead.json"))
    options = parser.parse_args()
    os.environ.update(CREDENTIALS)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(Path(folder), options.steps, options.batch, options.hidden_size, options.rounds)
    result = {"machine": describe_machine(), "load_average": os.getloadavg()[0], **measured}
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
