"""Time of one optimizer step on the parameters of the base size: LAMB in its forms and other packages' optimizers.

python -m benchmarks.lamb [--device cuda|cpu] [--repeats 20] [--layers 12] [--quick]
                          [--out benchmarks/results/lamb_<device>.json]

Every contestant steps its own copy of the same parameters with the same gradients; after a warm-up they take turns, so
that a change in the machine's speed affects all. Output: median milliseconds a step, and the ratio to the foreach form.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from elc_composer.model import ElcConfig, ElcForMaskedLM
from elc_composer.optim import Lamb, parameter_groups
from tests.optim.plain_lamb import PlainLamb

SETTINGS: dict[str, Any] = {"lr": 1e-3, "betas": (0.9, 0.98), "eps": 1e-6}
CONTESTANTS: dict[str, Callable[[list[dict[str, Any]]], torch.optim.Optimizer]] = {
    "lamb_foreach": lambda groups: Lamb(groups, **SETTINGS),
    "lamb_plain": lambda groups: PlainLamb(groups, **SETTINGS),
    "torch_adamw_foreach": lambda groups: torch.optim.AdamW(groups, **SETTINGS, foreach=True),
    "torch_adamw_per_parameter": lambda groups: torch.optim.AdamW(groups, **SETTINGS, foreach=False),
}

try:
    from torch_optimizer import Lamb as TorchOptimizerLamb
except ImportError:  # Composer brings it
    pass
else:
    CONTESTANTS["torch_optimizer_lamb"] = lambda groups: TorchOptimizerLamb(groups, **SETTINGS)


def parameter_list(layers: int, device: str) -> list[dict[str, Any]]:
    """Groups of the base model's parameters with gradients, on `device`."""
    config = ElcConfig(
        layer_mixing="zero",
        vocab_size=16384,
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=layers,
        num_attention_heads=12,
    )
    with torch.device(device):
        groups = parameter_groups(ElcForMaskedLM(config), 0.1)
    generator = torch.Generator(device).manual_seed(0)
    for group in groups:
        group["params"] = [nn.Parameter(param.detach().to(device)) for param in group["params"]]
        for param in group["params"]:
            param.grad = torch.randn(param.shape, generator=generator, device=device)
    return groups


def milliseconds(optimizer: torch.optim.Optimizer, device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    optimizer.step()
    if device == "cuda":
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--quick", action="store_true", help="one layer, two repeats: whether all of it runs")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.quick:
        args.layers, args.repeats = 1, 2
    out = args.out or Path(__file__).parent / "results" / f"lamb_{args.device}.json"

    load = os.getloadavg()[0]
    optimizers = {name: make(parameter_list(args.layers, args.device)) for name, make in CONTESTANTS.items()}
    times: dict[str, list[float]] = {name: [] for name in optimizers}
    for turn in range(args.repeats + 2):
        for name, optimizer in optimizers.items():
            elapsed = milliseconds(optimizer, args.device)
            if turn >= 2:
                times[name].append(elapsed)

    params = [param for group in next(iter(optimizers.values())).param_groups for param in group["params"]]
    medians = {name: statistics.median(values) for name, values in times.items()}
    result = {
        "machine": torch.cuda.get_device_name() if args.device == "cuda" else cpu_name(),
        "threads": torch.get_num_threads(),
        "load_average_before": round(load, 1),
        "torch": torch.__version__,
        "parameters": sum(param.numel() for param in params),
        "tensors": len(params),
        "repeats": args.repeats,
        "milliseconds": {name: round(value, 3) for name, value in medians.items()},
        "quotient_by_lamb_foreach": {name: round(v / medians["lamb_foreach"], 3) for name, v in medians.items()},
    }
    print(json.dumps(result, indent=2))
    if args.quick and not args.out:
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.processor()}, {len(models)} cores"


if __name__ == "__main__":
    main()
