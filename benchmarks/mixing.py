"""Time of layer mixing's operations on the states of the base size, against the plain form and a copy.

python -m benchmarks.mixing [--device cuda|cpu] [--rows 256] [--length 128] [--width 768] [--states 13] [--repeats 20]
                            [--quick] [--out benchmarks/results/mixing_<device>.json]

The operations are the weighted sum of all states and the inner products of all states with one other, in the plain form
and by the kernels of the device (Triton on a GPU, torch on a CPU). States are bfloat16 on a GPU and float32 on a CPU.
Contestants take turns. Output: median milliseconds, and bytes a second as a share of the rate of a copy measured in the
same turns (each state read once, each result written once).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.contestants import Step, take_turns
from benchmarks.machine import describe_machine
from elc_composer.model.layer_mixing import inner_products, mix, weighted_sum


def plain_products(states: list[Tensor], other: Tensor) -> Tensor:
    """The inner products one after the other, in float32."""
    wide = other.float()
    return torch.stack([(state.float() * wide).sum() for state in states])


def contestants(states: list[Tensor], kernels: str) -> tuple[dict[str, Step], dict[str, int]]:
    """The operations, and the passes over one state that each of them needs at least."""
    weights = torch.linspace(-1, 1, len(states), device=states[0].device)
    shares = torch.softmax(weights, 0)
    target = torch.empty_like(states[0])
    steps: dict[str, Step] = {
        "copy": lambda: target.copy_(states[0]),
        "plain sum": lambda: mix(states, weights),
        f"{kernels} sum": lambda: weighted_sum(states, shares, kernels, states[0].dtype),
        "plain inner products": lambda: plain_products(states, states[0]),
        f"{kernels} inner products": lambda: inner_products(states, states[0], kernels),
    }
    return steps, {name: 2 if name == "copy" else len(states) + 1 for name in steps}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda" if torch.cuda.is_available() else "cpu")
    for name, value in (("rows", 256), ("length", 128), ("width", 768), ("states", 13), ("repeats", 20)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--quick", action="store_true", help="tiny states, two repeats: whether all of it runs")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.quick:
        args.rows, args.length, args.width, args.repeats = 2, 16, 64, 2
    on_gpu = args.device == "cuda"
    torch.manual_seed(0)
    dtype = torch.bfloat16 if on_gpu else torch.float32
    shape = (args.rows, args.length, args.width)
    states = [torch.randn(shape, device=args.device).to(dtype) for _ in range(args.states)]
    load = os.getloadavg()[0]
    with torch.no_grad():
        steps, passes = contestants(states, "triton" if on_gpu else "torch")
        times = take_turns(steps, args.device, args.repeats)
    seconds = {name: statistics.median(whole for whole, _ in values) for name, values in times.items()}
    rates = {name: passes[name] * states[0].nbytes / seconds[name] for name in steps}
    result = {
        "machine": torch.cuda.get_device_name() if on_gpu else describe_machine(),
        "threads": torch.get_num_threads(),
        "load_average_before": round(load, 1),
        "torch": torch.__version__,
        "dtype": str(dtype),
        "states": args.states,
        "shape": shape,
        "repeats": args.repeats,
        "copy_bytes_per_second": float(f"{rates['copy']:.4g}"),
        "milliseconds": {name: round(1000 * value, 4) for name, value in seconds.items()},
        "share_of_copy_rate": {name: round(rate / rates["copy"], 3) for name, rate in rates.items()},
    }
    print(json.dumps(result, indent=2))
    if args.quick and not args.out:
        return
    out = args.out or Path(__file__).parent / "results" / f"mixing_{args.device}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
