"""Time and memory of one training step: ELC-BERT in its forms, and transformers' models of the same size.

python benchmarks/train_step.py [--device cuda|cpu] [--size small|base] [--rows N] [--length T] [--repeats N] [--quick]
                                [--seconds S] [--prepare-seconds S] [--compile] [--only NAME ...]
                                [--out benchmarks/results/train_step_<device>.json]

A step is forward and backward from cleared gradients (clipping and the optimizer are the same for all and have a
benchmark of their own), with dropout 0.1. All contestants live in one process and take turns. The output has medians,
also of the ratios to the eager form within each turn, per token. A contestant that fails is reported with its error.
ELC-BERT's heads run at masked positions only, in the eager form too, as in the published code; transformers' models run
their head at all positions. MFU is model FLOPs (matrix products of forward and backward that must be done,
`estimate_flops`) a second over the measured rate of one large matrix product.

Peak memory: on a GPU the allocator's peak beyond what other contestants hold; on a CPU the largest resident size of a
process that takes two steps of that contestant alone. From 64 x 512 tokens on, the eager form would need more than
100 GB: it gets half of the rows on a GPU. `host_milliseconds` is the time until the step's last operation was issued.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent))
from contestants import (
    CONTESTANTS,
    SIZES,
    Step,
    Times,
    build,
    matrix_rate,
    one_line,
    quartiles,
    random_batch,
    take_turns,
    timed,
    training_step,
)
from machine import describe_machine

from elc_composer.model import ElcForMaskedLM

HALVED_FROM = 64 * 512 * 512
"""Scores of a head from which the eager form gets half of the rows on a GPU."""


def names_for(device: str, only: list[str] | None) -> list[str]:
    names = only or [name for name in CONTESTANTS if device == "cuda" or not name.endswith("_triton")]
    if unknown := sorted(set(names) - set(CONTESTANTS)):
        sys.exit(f"no such contestant: {', '.join(unknown)}; there are {', '.join(CONTESTANTS)}")
    return names


def rows_of(name: str, args: argparse.Namespace) -> int:
    halved = args.device == "cuda" and name.endswith("_eager") and args.rows * args.length**2 >= HALVED_FROM
    return args.rows // 2 if halved else args.rows


def make_step(name: str, args: argparse.Namespace) -> tuple[nn.Module, Step]:
    batch = random_batch(SIZES[args.size]["vocab_size"], rows_of(name, args), args.length, args.device)
    compiled = args.compile and not name.endswith("_eager")
    model = build(lambda: CONTESTANTS[name](args.size, longest=max(512, args.length)), args.device)
    return model, training_step(model, batch, args.device, compiled)


def memory_on_cpu(name: str, args: argparse.Namespace) -> int:
    shape = ["--size", args.size, "--rows", str(args.rows), "--length", str(args.length)]
    command = [sys.executable, __file__, "--memory-of", name, "--device", args.device, *shape]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def count_kernels(step: Step) -> int:
    """Kernels that one step launches on the GPU, copies and fills included."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        step()
        torch.cuda.synchronize()
    return sum(
        event.device_type == torch.autograd.DeviceType.CUDA and not event.is_user_annotation
        for event in profiler.events()
    )


def prepare(name: str, args: argparse.Namespace) -> tuple[Step, dict[str, Any]]:
    """A contestant's step, and what is measured before the turns: its first step, memory and kernels."""
    before = torch.cuda.memory_allocated() if args.device == "cuda" else 0
    model, step = make_step(name, args)
    first = timed(step, args.device).whole
    found: dict[str, Any] = {"rows": rows_of(name, args), "first_step_seconds": round(first, 2)}
    if args.compile and not name.endswith("_eager"):
        found["compile_seconds"] = round(first - timed(step, args.device).whole, 2)
    if args.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        step()
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated() - before
        # Parameters and gradients do not grow with the rows.
        fixed = 2 * sum(p.numel() * p.element_size() for p in model.parameters())
        found["peak_bytes"] = peak
        found["peak_bytes_at_all_rows"] = round(fixed + (peak - fixed) * args.rows / found["rows"])
        if not args.no_kernels:
            found["kernels"] = count_kernels(step)
    elif not args.no_memory:
        found["peak_bytes"] = memory_on_cpu(name, args)
    return step, found


def quotient(others: list[float], own: list[float]) -> float:
    """Speed relative to another contestant: the median of the ratios within each turn."""
    return statistics.median(other / mine for other, mine in zip(others, own))


def flops_of(rows: int, args: argparse.Namespace) -> int:
    labels = random_batch(SIZES[args.size]["vocab_size"], rows, args.length, "cpu")["labels"]
    with torch.device("meta"):
        reference = CONTESTANTS["ltg_auto"](args.size)
    assert isinstance(reference, ElcForMaskedLM)
    return reference.estimate_flops(rows, args.length, int((labels != -100).sum()))


def figures(
    name: str, times: dict[str, list[Times]], prepared: dict[str, dict[str, Any]], rate: float, args: argparse.Namespace
) -> dict[str, Any]:
    """The figures of one contestant's repeats."""

    def per_token(of: str) -> list[float]:
        return [one.whole / prepared[of]["rows"] for one in times[of]]

    seconds = [one.whole for one in times[name]]
    median, rows = statistics.median(seconds), prepared[name]["rows"]
    found = {
        "milliseconds": round(1000 * median, 2),
        "quartiles": [round(1000 * q, 2) for q in quartiles(seconds)],
        "host_milliseconds": round(1000 * statistics.median(one.host for one in times[name]), 2),
        "tokens_per_second": round(rows * args.length / median),
    }
    for other in ("elc_base_eager", "ltg_auto", "bert_sdpa"):
        if other in times:
            found[f"speed_by_{other}"] = round(quotient(per_token(other), per_token(name)), 3)
    if name.startswith(("elc", "ltg")):
        found["mfu"] = round(flops_of(rows, args) / median / rate, 4)
    return {**found, **prepared[name]}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", choices=list(SIZES), default="base")
    parser.add_argument("--rows", type=int, help="sequences; by default 256 x 128 tokens' worth on a GPU, 4 on a CPU")
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--seconds", type=float, help="begin no further turn after this many seconds of turns")
    parser.add_argument("--prepare-seconds", type=float, help="begin no further contestant after this many seconds")
    parser.add_argument("--quick", action="store_true", help="the tiny size, three repeats: whether all of it runs")
    parser.add_argument("--compile", action="store_true", help="torch.compile all but the eager forms")
    parser.add_argument(
        "--clock",
        choices=["wall", "process"],
        default="wall",
        help="process: CPU seconds, where others use the machine",
    )
    parser.add_argument("--only", nargs="+", help="some contestants by name")
    parser.add_argument("--no-memory", action="store_true", help="on a CPU: no processes that measure memory")
    parser.add_argument("--no-kernels", action="store_true", help="do not count kernels")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.quick:
        args.size, args.rows, args.length = "tiny", args.rows or 2, min(args.length, 32)
        args.repeats = args.repeats or 3
    args.rows = args.rows or (256 * 128 // args.length if args.device == "cuda" else 4)
    args.repeats = args.repeats or (50 if args.device == "cuda" else 7)
    return args


def main() -> None:
    args = parse()
    if args.memory_of:
        _, step = make_step(args.memory_of, args)
        step()
        step()
        print(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        return
    load = os.getloadavg()[0]
    clock = time.process_time if args.clock == "process" else time.perf_counter
    names = names_for(args.device, args.only)
    rates = [matrix_rate(args.device, clock=clock)]
    steps: dict[str, Step] = {}
    prepared: dict[str, dict[str, Any]] = {}
    failures: dict[str, str] = {}
    began = time.perf_counter()
    for name in names:
        if args.prepare_seconds is not None and time.perf_counter() - began > args.prepare_seconds:
            failures[name] = f"not begun: {args.prepare_seconds:.0f} s had passed"
            continue
        try:
            steps[name], prepared[name] = prepare(name, args)
        except Exception as problem:
            failures[name] = one_line(problem)
        # A failed contestant's tensors are gone only now that its error is handled.
        gc.collect()
        if args.device == "cuda":
            torch.cuda.empty_cache()
        print(name, failures.get(name) or prepared[name], file=sys.stderr, flush=True)
    times = take_turns(steps, args.device, args.repeats, clock=clock, failures=failures, seconds=args.seconds)
    if not failures:
        rates.append(matrix_rate(args.device, clock=clock))
    rate = statistics.median(rates)

    result = {
        "machine": torch.cuda.get_device_name() if args.device == "cuda" else describe_machine(),
        "threads": torch.get_num_threads(),
        "load_average_before": round(load, 1),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "dtype": "bfloat16 autocast" if args.device == "cuda" else "float32",
        "size": args.size,
        "rows": args.rows,
        "length": args.length,
        "compiled": args.compile,
        "clock": args.clock,
        "repeats": max(map(len, times.values()), default=0),
        "matrix_flops_per_second": float(f"{rate:.4g}"),
        "model_flops_per_step": flops_of(args.rows, args),
        "contestants": {
            name: {"error": failures[name]} if name in failures else figures(name, times, prepared, rate, args)
            for name in names
        },
    }
    print(json.dumps(result, indent=2))
    if args.quick and not args.out:
        return
    out = args.out or Path(__file__).parent / "results" / f"train_step_{args.device}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
