"""Profile a training step by kind of operation and by kernel: table, picture and JSON.

python benchmarks/profile_step.py [--device cuda|cpu] [--size small|base] [--rows N] [--length T] [--variant base]
                                  [--kernels eager torch ...] [--compile] [--steps N] [--quick]
                                  [--out benchmarks/results/profile_step_<device>]

On a GPU every kernel counts for the first kind below that matches its name or, where the name is a generic one, the
operation that launched it. With `--compile` a fused kernel has one kind: its heaviest operation's, in the order below.
On a CPU every operation's own time counts. The profiler slows a step down a little, so read the shares.
`roofline.py --check` compares the JSON with the predicted times.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

sys.path.insert(0, str(Path(__file__).resolve().parent))
from contestants import SIZES, build, elc, random_batch, training_step
from machine import describe_machine

# By kernel name, the first match counts. Inductor's names list the operations that a kernel fuses.
BY_KERNEL: dict[str, str] = {
    "layer mixing": r"weighted_sum|inner_product|linked_mix|(^|_)mix(_|$)",
    "attention forward": r"^_?forward_kernel|attention_forward|flash_fwd|fmha.*fprop|fmha.*fwd|cudnn.*fprop",
    "attention backward": r"query_gradient|key_gradient|backward_kernel|flash_bwd|fmha.*(bprop|bwd)|attention_backward",
    "matrix products": r"gemm|nvjet|cutlass|xmma|cublas|splitk|gemv|_mm_|triton_tem",
    "layer norms": r"layer_?norm|GammaBeta",
    "GELU": r"gelu",
    "embedding, softmax, loss": r"softmax|nll_loss|cross_entropy|embedding",
    "dropout": r"dropout|bernoulli|philox",
    "bias gradients and sums": r"triton_(red|per)_fused.*sum",
    "casts and copies": r"CatArray|memcpy|copy_kernel|copy_device|Memset|FillFunctor|to_copy|_cat|clone",
}
# By the name of an operation that encloses the launch, where the kernel's name does not tell.
BY_OPERATION: dict[str, tuple[str, ...]] = {
    "layer mixing": ("LinkedMix", "addcmul", "AddcmulBackward"),
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"),
    "attention forward": ("scaled_dot_product", "triton_attention", "Attend", "_attention"),
    "position look-ups": ("gather", "scatter", "aten::index"),
    "dropout": ("bernoulli", "randint", "SixteenBitDropout", "native_dropout"),
    "layer norms": ("layer_norm",),
    "embedding, softmax, loss": ("softmax", "embedding", "nll_loss"),
    "GELU": ("gelu",),
    "bias gradients and sums": ("aten::sum",),
    "casts and copies": ("aten::copy_", "aten::cat", "aten::fill_", "aten::zero_"),
}
OTHER = "other elementwise"
KINDS = [*dict.fromkeys([*BY_KERNEL, *BY_OPERATION]), OTHER]
TOP = 25


def kind_of_kernel(name: str) -> str | None:
    for kind, pattern in BY_KERNEL.items():
        if re.search(pattern, name, re.IGNORECASE):
            return kind
    return None


def kind_of_operation(event: Any) -> str:
    names = []
    while event is not None:
        names.append(event.name)
        event = event.cpu_parent
    for name in names:
        if any(mark in name for mark in BY_OPERATION["layer mixing"]):
            return "layer mixing"
    for kind, marks in BY_OPERATION.items():
        if any(mark in name for mark in marks for name in names[:3]):
            return kind
    return OTHER


def of_device(events: Any, steps: int) -> tuple[dict[str, float], dict[str, dict[str, Any]]]:
    """Milliseconds a step of each kind and of each kernel."""
    launched: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for event in events:
        if event.device_type == torch.autograd.DeviceType.CPU:
            for kernel in event.kernels:
                launched[kernel.name][kind_of_operation(event)] += kernel.duration
    whole: dict[str, list[float]] = defaultdict(list)
    for event in events:
        if event.device_type == torch.autograd.DeviceType.CUDA and not event.is_user_annotation:
            whole[event.name].append(event.time_range.elapsed_us())
    kinds: dict[str, float] = defaultdict(float)
    kernels = {}
    for name, durations in whole.items():
        total = sum(durations) / 1000 / steps
        by_name = kind_of_kernel(name)
        operations = launched.get(name)
        shares = {by_name: 1.0} if by_name else (operations and dict(operations)) or {OTHER: 1.0}
        for kind, weight in shares.items():
            kinds[kind] += total * weight / sum(shares.values())
        kernels[name] = {
            "kind": max(shares, key=shares.__getitem__),
            "milliseconds": round(total, 4),
            "calls": round(len(durations) / steps, 1),
        }
    return kinds, kernels


def measure(kernels: str, args: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds a step of every kind, and on a GPU of the heaviest kernels."""
    model = build(
        partial(elc, args.size, layer_mixing=args.variant, kernels=kernels, longest=max(512, args.length)), args.device
    )
    batch = random_batch(SIZES[args.size]["vocab_size"], args.rows, args.length, args.device)
    step = training_step(model, batch, args.device, args.compile and kernels != "eager")
    step()
    step()
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (args.device == "cuda")
    with profile(activities=activities) as profiler:
        for _ in range(args.steps):
            step()
        if args.device == "cuda":
            torch.cuda.synchronize()
    events = profiler.events()
    if args.device == "cuda":
        kinds, by_kernel = of_device(events, args.steps)
    else:
        kinds, by_kernel = defaultdict(float), {}
        for event in events:
            if event.self_cpu_time_total:
                kinds[kind_of_operation(event)] += event.self_cpu_time_total / 1000 / args.steps
    heaviest = sorted(by_kernel.items(), key=lambda item: -item[1]["milliseconds"])
    return {
        "milliseconds": {kind: round(v, 3) for kind, v in sorted(kinds.items(), key=lambda item: -item[1])},
        "launches": round(sum(one["calls"] for one in by_kernel.values())),
        "heaviest": [{"name": name[:200], **one} for name, one in heaviest[:TOP]],
    }


def draw(found: dict[str, dict[str, float]], title: str, out: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 1.9 + 0.6 * len(found)), layout="constrained")
    colors = plt.get_cmap("tab20").colors  # type: ignore[attr-defined]
    left = dict.fromkeys(found, 0.0)
    for number, kind in enumerate(KINDS):
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
    parser.add_argument("--compile", action="store_true", help="compile all but the eager form")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="the tiny size, one step: whether all of it runs")
    parser.add_argument("--no-picture", action="store_true")
    parser.add_argument("--out", type=Path, help="without suffix: .json and .png are added")
    args = parser.parse_args()
    if args.quick:
        args.size, args.rows, args.length, args.steps = "tiny", args.rows or 2, min(args.length, 32), 1
    args.rows = args.rows or (256 * 128 // args.length if args.device == "cuda" else 4)
    forms = args.kernels or ["eager", "torch"] + ["triton"] * (args.device == "cuda")
    load = os.getloadavg()[0]
    found = {kernels: measure(kernels, args) for kernels in forms}

    for kernels, one in found.items():
        total = sum(one["milliseconds"].values())
        print(f"{kernels}: {total:.1f} ms, {one['launches']} kernels")
        for kind, value in one["milliseconds"].items():
            print(f"  {kind:<26} {value:9.2f} ms  {100 * value / total:5.1f} %")
        for kernel in one["heaviest"]:
            print(f"    {kernel['milliseconds']:8.3f} ms {kernel['calls']:6.0f} x  {kernel['name'][:110]}")
    result = {
        "machine": torch.cuda.get_device_name() if args.device == "cuda" else describe_machine(),
        "threads": torch.get_num_threads(),
        "load_average_before": round(load, 1),
        "torch": torch.__version__,
        "size": args.size,
        "variant": args.variant,
        "rows": args.rows,
        "length": args.length,
        "compiled": args.compile,
        "milliseconds": {kernels: one["milliseconds"] for kernels, one in found.items()},
        "launches": {kernels: one["launches"] for kernels, one in found.items()},
        "heaviest": {kernels: one["heaviest"] for kernels, one in found.items()},
    }
    if args.quick and not args.out:
        return
    out = args.out or Path(__file__).parent / "results" / f"profile_step_{args.device}"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    if not args.no_picture:
        title = f"ELC-BERT {args.variant}, {args.size}, {args.rows} x {args.length} tokens, {result['machine']}"
        draw(result["milliseconds"], title, out.with_suffix(".png"))


if __name__ == "__main__":
    main()
