"""Time and memory of one training step: ELC-BERT in its forms, and transformers' models of the same size.

python benchmarks/train_step.py [--device cuda|cpu] [--size small|base] [--rows N] [--length T] [--repeats N] [--quick]
                                [--compile] [--only NAME ...] [--out benchmarks/results/train_step_<device>.json]

A step is forward and backward from cleared gradients (clipping and the optimizer are the same for all and have a
benchmark of their own), with dropout 0.1. All contestants live in one process and take turns. The output has medians,
also of the ratios to the eager form within each turn. ELC-BERT's heads run at masked positions only, in the eager form
too, as in the published code; transformers' models run their head at all positions. MFU is model FLOPs
(matrix products of forward and backward that must be done, `estimate_flops`) a second over the measured rate of one
large matrix product. Peak memory: on a GPU the allocator's peak; on a CPU the largest resident size of a process that
takes two steps of that contestant alone.
"""

from __future__ import annotations

import argparse
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

sys.path.insert(0, str(Path(__file__).resolve().parent))
from contestants import CONTESTANTS, SIZES, matrix_rate, random_batch, take_turns, training_step
from machine import describe_machine

from elc_composer.model import ElcForMaskedLM


def names_for(device: str, only: list[str] | None) -> list[str]:
    names = only or [name for name in CONTESTANTS if device == "cuda" or not name.endswith("_triton")]
    if unknown := sorted(set(names) - set(CONTESTANTS)):
        sys.exit(f"no such contestant: {', '.join(unknown)}; there are {', '.join(CONTESTANTS)}")
    return names


def peak_memory(name: str, args: argparse.Namespace) -> int:
    """Peak memory in bytes; see the module docstring."""
    if args.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        step = make_step(name, args)
        step()
        step()
        return torch.cuda.max_memory_allocated()
    shape = ["--size", args.size, "--rows", str(args.rows), "--length", str(args.length)]
    command = [sys.executable, __file__, "--memory-of", name, "--device", args.device, *shape]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def quotient(others: list[float], own: list[float]) -> float:
    """Speed relative to another contestant: the median of the ratios within each turn."""
    return statistics.median(other / mine for other, mine in zip(others, own))


def make_step(name: str, args: argparse.Namespace) -> Any:
    torch.manual_seed(0)
    batch = random_batch(SIZES[args.size]["vocab_size"], args.rows, args.length, args.device)
    compiled = args.compile and not name.endswith("_eager")
    return training_step(CONTESTANTS[name](args.size, longest=max(512, args.length)), batch, args.device, compiled)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", choices=list(SIZES), default="base")
    parser.add_argument("--rows", type=int, help="sequences; by default 256 x 128 tokens' worth on a GPU, 4 on a CPU")
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--quick", action="store_true", help="the tiny size, three repeats: whether all of it runs")
    parser.add_argument("--compile", action="store_true", help="torch.compile all but the eager forms")
    parser.add_argument(
        "--clock",
        choices=["wall", "process"],
        default="wall",
        help="process: CPU seconds, where others use the machine",
    )
    parser.add_argument("--only", nargs="+", help="some contestants by name")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.quick:
        args.size, args.rows, args.length, args.repeats = "tiny", 2, 32, 3
    args.rows = args.rows or (256 * 128 // args.length if args.device == "cuda" else 4)
    args.repeats = args.repeats or (50 if args.device == "cuda" else 7)
    return args


def main() -> None:
    args = parse()
    if args.memory_of:
        step = make_step(args.memory_of, args)
        step()
        step()
        print(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        return
    load = os.getloadavg()[0]
    clock = time.process_time if args.clock == "process" else time.perf_counter
    names = names_for(args.device, args.only)
    memory = {} if args.no_memory else {name: peak_memory(name, args) for name in names}
    rate = matrix_rate(args.device, clock=clock)
    steps = {name: make_step(name, args) for name in names}
    times = take_turns(steps, args.device, args.repeats, clock=clock)
    rate = statistics.median([rate, matrix_rate(args.device, clock=clock)])

    seconds = {name: statistics.median(values) for name, values in times.items()}
    predicted = int(
        (random_batch(SIZES[args.size]["vocab_size"], args.rows, args.length, "cpu")["labels"] != -100).sum()
    )
    with torch.device("meta"):
        reference = CONTESTANTS["ltg_auto"](args.size)
    assert isinstance(reference, ElcForMaskedLM)
    flops = reference.estimate_flops(args.rows, args.length, predicted)
    eager = times.get("elc_base_eager")
    found: dict[str, Any] = {
        name: {
            "milliseconds": round(1000 * value, 2),
            "quartiles": [round(1000 * q, 2) for q in statistics.quantiles(times[name], n=4)[::2]],
            "tokens_per_second": round(args.rows * args.length / value),
            **({"speed_by_elc_base_eager": round(quotient(eager, times[name]), 3)} if eager else {}),
            **({"mfu": round(flops / value / rate, 3)} if name.startswith(("elc", "ltg")) else {}),
            **({"peak_bytes": memory[name]} if memory else {}),
        }
        for name, value in seconds.items()
    }
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
        "repeats": args.repeats,
        "matrix_flops_per_second": float(f"{rate:.4g}"),
        "model_flops_per_step": flops,
        "contestants": found,
    }
    print(json.dumps(result, indent=2))
    if args.quick and not args.out:
        return
    out = args.out or Path(__file__).parent / "results" / f"train_step_{args.device}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
