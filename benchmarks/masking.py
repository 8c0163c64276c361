"""Benchmark of masking: CPU time per sample of the batch form, a direct implementation, and transformers' collator.

python -m benchmarks.masking [--batch 256] [--repeats 15] [--out benchmarks/results/masking.json]

One thread; the contestants take turns; medians in microseconds. `span, direct` is the implementation of the rules in
tests/data/masking_reference.py, one span and one token at a time. The published loop took 1507 microseconds per
sample of 128 tokens on the machine that measured it. transformers' collator masks single tokens: compare it with
`token`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models
from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerFast

from benchmarks.machine import describe_machine
from elc_composer.data import fitted_masking
from elc_composer.data.masking import MaskingConfig, TokenIds, mask_batch
from elc_composer.data.random import sample_keys
from tests.data.masking_reference import mask_sample

TOKENS = TokenIds(vocab_size=16384)
SPECIAL = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", "[PAR]", "[TAB]"]


def framed(batch: int, length: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    ids = rng.integers(len(SPECIAL), TOKENS.vocab_size, (batch, length))
    ids[:, 0], ids[:, -1] = TOKENS.cls_id, TOKENS.sep_id
    return ids


def transformers_collator() -> DataCollatorForLanguageModeling:
    vocabulary = {token: i for i, token in enumerate(SPECIAL + [f"w{i}" for i in range(16384 - len(SPECIAL))])}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(vocabulary, "[UNK]")),
        **dict(zip(("unk_token", "cls_token", "sep_token", "pad_token", "mask_token"), SPECIAL)),
    )
    return DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)


def contestants(batch: int, length: int, probability: float) -> dict[str, tuple[int, Callable[[], object]]]:
    """Name -> (samples per call, call)."""
    ids = framed(batch, length)
    keys, share = sample_keys(0, np.zeros(batch), np.arange(batch)), np.full(batch, probability)
    span = MaskingConfig(probability=probability)
    token, fitted = replace(span, strategy="token"), replace(span, rules="fitted", max_spans=None)
    collator = transformers_collator()
    samples = [{"input_ids": row.tolist()} for row in ids]
    tensor = torch.from_numpy(ids)

    def one_by_one() -> None:
        for i in range(8):
            mask_sample(ids[i], keys[i : i + 1], probability, span, TOKENS)

    return {
        "span": (batch, lambda: mask_batch(ids, keys, share, span, TOKENS)),
        "token": (batch, lambda: mask_batch(ids, keys, share, token, TOKENS)),
        "span, fitted rules": (batch, lambda: fitted_masking.mask_batch(ids, keys, share, fitted, TOKENS)),
        "span, direct": (8, one_by_one),
        "transformers, masking alone": (batch, lambda: collator.torch_mask_tokens(tensor.clone())),
        "transformers, collator": (batch, lambda: collator(samples)),
    }


def measure(batch: int, length: int, probability: float, repeats: int) -> dict[str, float]:
    calls = contestants(batch, length, probability)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(repeats + 1):
        for name, (samples, call) in calls.items():
            start = time.process_time()
            call()
            if repeat:
                times[name].append((time.process_time() - start) / samples * 1e6)
    return {name: round(statistics.median(values), 2) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/masking.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    result = {
        "machine": describe_machine(),
        "load_average": os.getloadavg()[0],
        "batch": options.batch,
        "unit": "microseconds of CPU time per sample, median",
        "published_loop_128_tokens": 1507.4,
        "results": {
            f"{length} tokens, {probability}": measure(options.batch, length, probability, options.repeats)
            for length, probability in ((128, 0.15), (128, 0.3), (512, 0.15))
        },
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
