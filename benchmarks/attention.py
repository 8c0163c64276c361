"""Benchmark of disentangled attention, forward and backward: time and memory of this project's forms and of others.

    python -m benchmarks.attention [--device cuda|cpu] [--repeats 20] [--quick] [--tune [--tune-seconds 30]]
                                   [--out benchmarks/results/attention_<device>.json]

It measures the part between the projections and the output matrix with the base model's heads (12 of size 64, 63
buckets) in one process. After warm-up the contestants take turns, so that a change in the machine's speed affects all
of them. Medians in milliseconds: wall time on CUDA; CPU time of all threads on the CPU, where other work on the
machine then matters little. On CUDA also the peak memory beyond the inputs.

On CUDA (bfloat16): `triton` (the form that the length chooses), `triton saved` and `triton computed` (its backward pass
from saved probabilities, or computing them again), `torch` (scaled_dot_product_attention with the bias in memory),
`eager`, `flex` (torch's FlexAttention, compiled; it has no dropout) and `flashdeberta` (if installed; no dropout). On
the CPU (float32): `torch` and `eager`.

`--tune` (CUDA) first times launch shapes of the kernels, for at most `--tune-seconds`, to confirm those in
`triton_attention.launches`. `--quick` leaves out contestants that torch compiles or that come from other packages. The
file is written after each part.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import torch
from torch import Tensor

from benchmarks.attention_launches import tune
from benchmarks.machine import describe_machine
from elc_composer.model import triton_attention as module
from elc_composer.model.attention import by_distance, plain_attention, relative_position_buckets, torch_attention
from elc_composer.model.triton_attention import triton_attention

HEADS, SIZE, BUCKETS, POSITIONS = 12, 64, 32, 512
SCALE = 1.0 / math.sqrt(3 * SIZE)
SHAPES = {"cuda": [(256, 128), (64, 512)], "cpu": [(16, 128), (4, 512), (128, 12)]}


class Inputs(NamedTuple):
    query_key: Tensor
    value: Tensor
    position: Tensor
    buckets: Tensor
    padding: Tensor
    lengths: Tensor

    def leaves(self) -> list[Tensor]:
        return [self.query_key, self.value, self.position]


Contestant = Callable[[Inputs, float], Tensor]


def inputs(batch: int, length: int, device: str) -> Inputs:
    generator = torch.Generator(device).manual_seed(0)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device).to(dtype).requires_grad_()

    place = torch.arange(length)
    table = relative_position_buckets(BUCKETS, POSITIONS)
    lengths = torch.full((batch,), length, dtype=torch.int32)
    lengths[::8] = max(1, length // 2)
    return Inputs(
        normal(batch, length, 2, HEADS, SIZE),
        normal(batch, length, HEADS, SIZE),
        normal(2 * BUCKETS - 1, 2, HEADS, SIZE),
        table[place[:, None] - place[None, :] + POSITIONS - 1].to(device),
        (place >= lengths[:, None])[:, None, None, :].to(device),
        lengths.to(device),
    )


def eager(x: Inputs, dropout: float) -> Tensor:
    return plain_attention(*x.leaves(), x.buckets, x.padding, SCALE, dropout)[0]


def fused_torch(x: Inputs, dropout: float) -> Tensor:
    return torch_attention(*x.leaves(), x.buckets, x.padding, SCALE, dropout)


def triton(x: Inputs, dropout: float) -> Tensor:
    return triton_attention(*x.leaves(), by_distance(x.buckets), x.padding.flatten(1), SCALE, dropout)


def triton_form(saved: bool) -> Contestant:
    """`triton` with or without saved probabilities, whatever the length."""

    def attend(x: Inputs, dropout: float) -> Tensor:
        with mock.patch.object(module, "SAVED_LENGTH", x.value.shape[1] if saved else 0):
            return triton(x, dropout)

    return attend


def launch_times(shapes: list[tuple[int, int]], dropout: float, seconds: float) -> list[dict[str, object]]:
    """Times of launch shapes for inputs of each of the shapes."""
    given = {}
    for batch, length in shapes:
        x = inputs(batch, length, "cuda")
        leaves = [leaf.detach() for leaf in x.leaves()]
        seed = torch.zeros(1, dtype=torch.int64, device="cuda")
        arguments = (*leaves, by_distance(x.buckets), x.padding.flatten(1), seed, SCALE, dropout)
        given[f"{batch} x {length}"] = arguments, torch.randn_like(leaves[1])
    return tune(given, seconds)


def flex() -> Contestant:
    from torch.nn.attention.flex_attention import flex_attention

    @torch.compile(dynamic=False)
    def attend(x: Inputs) -> Tensor:
        query, key = x.query_key.transpose(1, 3).unbind(2)
        query_position, key_position = (x.position * SCALE).transpose(0, 2).unbind(1)
        by_query = query @ key_position.transpose(-1, -2)
        by_key = key @ query_position.transpose(-1, -2)
        distances = by_distance(x.buckets)
        last = len(x.buckets) - 1

        def modify(score: Tensor, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            bucket = distances[q - k + last]
            score = score + by_query[b, h, q, bucket] + by_key[b, h, k, bucket]
            return torch.where(k < x.lengths[b], score, -torch.inf)

        return flex_attention(query, key, x.value.transpose(1, 2), score_mod=modify, scale=SCALE).transpose(1, 2)

    return lambda x, _: attend(x)


def flashdeberta() -> Contestant:
    from flashdeberta.ops.flash_attention import flash_attention_with_disentangled

    def attend(x: Inputs, _: float) -> Tensor:
        query, key = x.query_key.transpose(1, 3).contiguous().unbind(2)
        # Its tables have a row more before the first bucket.
        rows = torch.nn.functional.pad(x.position, (0, 0, 0, 0, 0, 0, 1, 0))
        query_position, key_position = rows.transpose(0, 2).unbind(1)
        return flash_attention_with_disentangled(
            query.contiguous(), key.contiguous(), x.value.transpose(1, 2).contiguous(), x.lengths,
            key_position[None], query_position[None], False, SCALE, BUCKETS, POSITIONS,
        ).transpose(1, 2)  # fmt: skip

    return attend


def contestants(device: str, quick: bool) -> tuple[dict[str, Contestant], dict[str, str]]:
    """Contestants by name, and the reasons why others are left out."""
    found: dict[str, Contestant] = {"eager": eager, "torch": fused_torch}
    absent: dict[str, str] = {}
    if device == "cuda":
        found |= {"triton": triton, "triton saved": triton_form(True), "triton computed": triton_form(False)}
        others = {"flex": flex, "flashdeberta": flashdeberta}
        for name, make in [] if quick else others.items():
            try:
                found[name] = make()
            except ImportError as error:
                absent[name] = str(error)
    return found, absent


def milliseconds(run: Callable[[], None], device: str) -> float:
    if device == "cpu":
        start = time.process_time()
        run()
        return 1e3 * (time.process_time() - start)
    torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - start)


def measure(
    batch: int, length: int, device: str, dropout: float, repeats: int, quick: bool
) -> dict[str, dict[str, object]]:
    """Figures of each contestant at one shape; a failing one is reported with its error."""
    given = inputs(batch, length, device)
    d_out = torch.randn_like(given.value)
    expected = eager(given, 0.0).detach().double()
    real = ~given.padding[:, 0, 0]
    runs: dict[str, Callable[[], None]] = {}
    figures: dict[str, dict[str, object]] = {}
    found, absent = contestants(device, quick)
    for name, attend in found.items():

        def infer(attend: Contestant = attend) -> None:
            with torch.no_grad():
                attend(given, 0.0)

        def train(attend: Contestant = attend) -> None:
            torch.autograd.grad(attend(given, dropout), given.leaves(), d_out)

        try:
            with torch.no_grad():
                error = float((attend(given, 0.0).double() - expected)[real].abs().max())
            train()
        except Exception as problem:  # a contestant from elsewhere may fail in any way
            absent[name] = f"{type(problem).__name__}: {str(problem).splitlines()[0]}"
            continue
        figures[name] = {"largest_difference_to_eager": error}
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            train()
            figures[name]["peak_MiB"] = round((torch.cuda.max_memory_allocated() - before) / 2**20, 1)
        runs |= {f"{name}/inference_ms": infer, f"{name}/training_ms": train}
    times: dict[str, list[float]] = {key: [] for key in runs}
    for turn in range(repeats + 2):
        for key, run in runs.items():
            elapsed = milliseconds(run, device)
            if turn >= 2:
                times[key].append(elapsed)
    for key, values in times.items():
        name, kind = key.split("/")
        figures[name][kind] = round(statistics.median(values), 3)
    return {**figures, **{name: {"left_out": why} for name, why in absent.items()}}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--tune-seconds", type=float, default=30.0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.tune and args.device != "cuda":
        parser.error("--tune times GPU kernels: it needs --device cuda")
    out = args.out or Path(__file__).parent / "results" / f"attention_{args.device}.json"
    result: dict[str, object] = {
        "machine": torch.cuda.get_device_name() if args.device == "cuda" else describe_machine(),
        "threads": torch.get_num_threads(),
        "load_average_before": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
        "dropout_in_training": args.dropout,
        "repeats": args.repeats,
    }
    out.parent.mkdir(parents=True, exist_ok=True)

    def write() -> None:
        out.write_text(json.dumps(result, indent=2) + "\n")

    if args.tune:
        result["launches"] = launch_times(SHAPES["cuda"], args.dropout, args.tune_seconds)
        write()
    for batch, length in SHAPES[args.device]:
        result[f"{batch} x {length}"] = measure(batch, length, args.device, args.dropout, args.repeats, args.quick)
        write()
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
