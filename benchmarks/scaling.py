"""Cost of a training step against length, depth, width and batch, with and without layer mixing.

python benchmarks/scaling.py [--device cuda|cpu] [--size tiny|small|base] [--axes length depth width batch]
                             [--repeats N] [--tokens N] [--quick] [--out benchmarks/results/scaling_<device>.json]

At every point the ELC variant `zero` and the plain residual `ltg` take turns on the same batch; the median of their
ratios minus one is the cost of mixing. The length axis keeps the number of tokens. `states_read` counts the states
that all layers' mixes read, (L+1) L / 2; `states_read_in_blocks` counts what they would read if a layer mixed only the
states of its own block of 6 layers and each earlier block's output, as attention over blocks of layers does.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from contestants import SIZES, build, elc, random_batch, take_turns, training_step
from machine import describe_machine

BLOCK = 6
AXES: dict[str, list[int]] = {
    "length": [64, 128, 256, 512, 1024, 2048],
    "depth": [6, 12, 24, 48],
    "width": [192, 384, 768, 1024],
    "batch": [1, 2, 4, 8, 16],
}


def states_read(layers: int) -> int:
    return (layers + 1) * layers // 2


def states_read_in_blocks(layers: int, block: int = BLOCK) -> int:
    # Layer n (from 0) reads the embedding, the last output of each earlier block, and its own block so far.
    return sum(1 + layer // block + layer % block for layer in range(layers))


def point(axis: str, value: int, args: argparse.Namespace) -> dict[str, Any]:
    length = value if axis == "length" else 128
    rows = value if axis == "batch" else max(1, args.tokens // length)
    layers = value if axis == "depth" else 12
    width = value if axis == "width" else SIZES[args.size]["hidden_size"]
    inner = 8 * width // 3 // 64 * 64
    shape = {"hidden_size": width, "intermediate_size": inner, "num_attention_heads": max(1, width // 64)}
    steps = {}
    for variant in ("zero", "ltg"):
        model = build(
            partial(elc, args.size, layers, max(512, length), layer_mixing=variant, kernels=args.kernels, **shape),
            args.device,
        )
        steps[variant] = training_step(
            model, random_batch(model.config.vocab_size, rows, length, args.device), args.device
        )
    taken = take_turns(steps, args.device, args.repeats, warmup=1)
    times = {name: [one.whole for one in values] for name, values in taken.items()}
    quotients = [elc_time / plain for elc_time, plain in zip(times["zero"], times["ltg"])]
    return {
        axis: value,
        "tokens": rows * length,
        "milliseconds": round(1000 * statistics.median(times["zero"]), 2),
        "milliseconds_ltg": round(1000 * statistics.median(times["ltg"]), 2),
        "mixing_share": round(statistics.median(quotients) - 1, 4),
        "states_read": states_read(layers),
        "states_read_in_blocks": states_read_in_blocks(layers),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", choices=list(SIZES), default="base")
    parser.add_argument("--axes", nargs="+", choices=list(AXES), default=list(AXES))
    parser.add_argument("--kernels", default="auto")
    parser.add_argument("--tokens", type=int, help="tokens of a batch on the axes length, depth and width")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="two points of every axis, one repeat, the tiny size")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    args.tokens = args.tokens or (32768 if args.device == "cuda" else 512)
    if args.quick:
        args.size, args.repeats, args.tokens = "tiny", 1, 128
    load = os.getloadavg()[0]
    found: dict[str, list[dict[str, Any]]] = {}
    for axis in args.axes:
        found[axis] = []
        for value in AXES[axis][: 2 if args.quick else None]:
            found[axis].append(point(axis, value, args))
            print(axis, found[axis][-1], flush=True)
    result = {
        "machine": torch.cuda.get_device_name() if args.device == "cuda" else describe_machine(),
        "threads": torch.get_num_threads(),
        "load_average_before": round(load, 1),
        "torch": torch.__version__,
        "size": args.size,
        "kernels": args.kernels,
        "repeats": args.repeats,
        "axes": found,
    }
    if args.quick and not args.out:
        return
    out = args.out or Path(__file__).parent / "results" / f"scaling_{args.device}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
