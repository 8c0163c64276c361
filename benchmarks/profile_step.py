"""Profile a training step by kind of operation: table, picture and JSON.

python benchmarks/profile_step.py [--device cuda|cpu] [--size small|base] [--rows N] [--length T] [--variant base]
                                  [--kernels eager torch ...] [--steps N]
                                  [--out benchmarks/results/profile_step_<device>]

Every operation's own time (on a GPU: its kernels') under torch's profiler counts for the first matching kind below;
layer mixing is matched first. The profiler slows a step down a little, so read the shares.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from torch.profiler import ProfilerActivity, profile

sys.path.insert(0, str(Path(__file__).resolve().parent))
from contestants import SIZES, elc, random_batch, training_step
from machine import describe_machine

KINDS = {
    "layer mixing": ("LinkedMix", "addcmul", "AddcmulBackward"),
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"),
    "attention kernels": ("scaled_dot", "TritonAttention", "Attend", "_attention"),
    "position look-ups": ("gather", "scatter", "aten::index"),
    "dropout": ("bernoulli", "randint", "SixteenBitDropout", "native_dropout"),
    "layer norms": ("layer_norm",),
    "softmax": ("softmax",),
    "GELU": ("gelu",),
    "embedding and loss": ("embedding", "nll_loss"),
    "copies": ("aten::copy_", "aten::cat", "aten::fill_", "aten::zero_"),
}
OTHER = "other elementwise"


def kind_of(event: Any) -> str:
    names = []
    while event is not None:
        names.append(event.name)
        event = event.cpu_parent
    for name in names:
        if any(mark in name for mark in KINDS["layer mixing"]):
            return "layer mixing"
    for kind, marks in KINDS.items():
        if any(mark in name for mark in marks for name in names[:3]):
            return kind
    return OTHER


def measure(kernels: str, args: argparse.Namespace) -> dict[str, float]:
    """Milliseconds a step of every kind."""
    torch.manual_seed(0)
    model = elc(args.size, layer_mixing=args.variant, kernels=kernels, longest=max(512, args.length))
    batch = random_batch(SIZES[args.size]["vocab_size"], args.rows, args.length, args.device)
    step = training_step(model, batch, args.device)
    step()
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (args.device == "cuda")
    with profile(activities=activities) as profiler:
        for _ in range(args.steps):
            step()
        if args.device == "cuda":
            torch.cuda.synchronize()
    found: dict[str, float] = defaultdict(float)
    for event in profiler.events():
        own = event.self_device_time_total if args.device == "cuda" else event.self_cpu_time_total
        if own and event.device_type == torch.autograd.DeviceType.CPU:
            found[kind_of(event)] += own / 1000 / args.steps
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def draw(found: dict[str, dict[str, float]], title: str, out: Path) -> None:
    kinds = [*KINDS, OTHER]
    figure, axes = plt.subplots(figsize=(9, 1.9 + 0.6 * len(found)), layout="constrained")
    colors = plt.get_cmap("tab20").colors  # type: ignore[attr-defined]
    left = dict.fromkeys(found, 0.0)
    for number, kind in enumerate(kinds):
        widths = [parts.get(kind, 0.0) for parts in found.values()]
        if any(widths):
            axes.barh(list(found), widths, left=list(left.values()), label=kind, color=colors[number])
            left = {name: left[name] + width for name, width in zip(found, widths)}
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds of a step")
    axes.set_title(title, fontsize=10)
    figure.legend(ncols=4, fontsize=8, loc="outside lower center")
    figure.savefig(out, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", choices=list(SIZES), default="base")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--variant", default="base")
    parser.add_argument("--kernels", nargs="+")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--out", type=Path, help="without suffix: .json and .png are added")
    args = parser.parse_args()
    args.rows = args.rows or (256 * 128 // args.length if args.device == "cuda" else 4)
    kinds = args.kernels or ["eager", "torch"] + ["triton"] * (args.device == "cuda")
    load = os.getloadavg()[0]
    found = {kernels: measure(kernels, args) for kernels in kinds}

    for kernels, parts in found.items():
        total = sum(parts.values())
        print(f"{kernels}: {total:.1f} ms")
        for kind, value in parts.items():
            print(f"  {kind:<20} {value:9.2f} ms  {100 * value / total:5.1f} %")
    result = {
        "machine": torch.cuda.get_device_name() if args.device == "cuda" else describe_machine(),
        "threads": torch.get_num_threads(),
        "load_average_before": round(load, 1),
        "torch": torch.__version__,
        "size": args.size,
        "variant": args.variant,
        "rows": args.rows,
        "length": args.length,
        "milliseconds": {k: {kind: round(v, 3) for kind, v in parts.items()} for k, parts in found.items()},
    }
    out = args.out or Path(__file__).parent / "results" / f"profile_step_{args.device}"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    title = f"ELC-BERT {args.variant}, {args.size}, {args.rows} x {args.length} tokens, {result['machine']}"
    draw(found, title, out.with_suffix(".png"))


if __name__ == "__main__":
    main()
