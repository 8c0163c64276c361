"""Throughput of one loader process: samples and tokens a second, from local shards to masked batches.

python -m benchmarks.loader [--samples 60000] [--seq-length 128] [--batch 512] [--out benchmarks/results/loader.json]

One epoch with the loader in the main process, one with one worker process, and each part alone.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from streaming import MDSWriter

from benchmarks.machine import describe_machine
from elc_composer.data import DataConfig, MaskingConfig, StreamConfig, TokenIds, build_train_loader

TOKENS = TokenIds(vocab_size=16384)


def write(root: Path, samples: int, seq_length: int, shard_bytes: int = 1 << 26) -> None:
    rng = np.random.default_rng(0)
    out = str(root / f"seq_{seq_length}" / "train")
    columns = {"input_ids": "ndarray:uint16"}
    with MDSWriter(out=out, columns=columns, hashes=["sha256"], size_limit=shard_bytes) as writer:
        for size in rng.integers(seq_length // 2, seq_length - 1, samples):
            writer.write({"input_ids": rng.integers(7, TOKENS.vocab_size, size).astype(np.uint16)})


def measure(root: Path, workers: int, seq_length: int, batch: int) -> dict[str, float]:
    config = DataConfig(streams=[StreamConfig(local=str(root))], num_workers=workers)
    loader = build_train_loader(
        config, MaskingConfig(), TOKENS, seq_length=seq_length, device_batch_size=batch, seed=0
    ).dataloader
    batches = iter(loader)
    next(batches)
    start, samples, tokens, processor = time.perf_counter(), 0, 0, time.process_time()
    for found in batches:
        samples += len(found["input_ids"])
        tokens += sum(found["token_counts"])
    wall, processor = time.perf_counter() - start, time.process_time() - processor
    result = {"samples_per_second": round(samples / wall), "token_slots_per_second": round(samples * seq_length / wall)}
    if not workers:
        result["cpu_microseconds_per_sample"] = round(processor / samples * 1e6, 1)
        dataset, collate = loader.dataset, loader.collate_fn
        start = time.process_time()
        found = [{**dataset.get_item(i), "epoch": 0, "step": 0} for i in range(4 * batch)]
        result["reading_cpu_microseconds_per_sample"] = round((time.process_time() - start) / len(found) * 1e6, 1)
        start = time.process_time()
        for first in range(0, len(found), batch):
            collate(found[first : first + batch])
        result["collating_cpu_microseconds_per_sample"] = round((time.process_time() - start) / len(found) * 1e6, 1)
    loader.close()
    return result


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=60_000)
    parser.add_argument("--seq-length", type=int, default=128)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/loader.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), options.samples, options.seq_length)
        runs = {
            f"{workers} workers": measure(Path(folder), workers, options.seq_length, options.batch)
            for workers in (0, 1)
        }
    result = {
        "machine": describe_machine(),
        "load_average": os.getloadavg()[0],
        "seq_length": options.seq_length,
        "batch": options.batch,
        "results": runs,
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
