"""Loss curves with LayerNorms in autocast's dtype and in float32, under bf16 autocast: does the dtype cost loss?

Usage: python benchmarks/norm_precision.py [--device cuda|cpu] [--layers L] [--width D] [--rows B] [--length T]
                                           [--steps N] [--seeds S] [--out PATH]

Both settings start from the same weights and see the same batches. The text is a fixed random source with structure: a
token depends on the token before it (a random sparse transition table), so that there is something to learn and
nothing to download. 15 % of the tokens are masked. AdamW with warm-up; float32 parameters.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import torch
from torch import Tensor

from elc_composer.model import ElcConfig, ElcForMaskedLM

VOCABULARY, MASK, CHOICES = 96, 4, 2
SETTINGS = ("float32", "autocast")


def source(seed: int) -> Tensor:
    """`[V, CHOICES]` successors of each token."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(7, VOCABULARY, (VOCABULARY, CHOICES), generator=generator)


def batch(successors: Tensor, rows: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Masked ids, labels and positions of the labels."""
    choices = torch.randint(CHOICES, (rows, length), generator=generator)
    ids = torch.empty(rows, length, dtype=torch.int64)
    ids[:, 0] = torch.randint(7, VOCABULARY, (rows,), generator=generator)
    for place in range(1, length):
        ids[:, place] = successors[ids[:, place - 1], choices[:, place]]
    count = round(0.15 * rows * length)
    positions = torch.randperm(rows * length, generator=generator)[:count].sort().values
    labels = torch.full_like(ids, -100).flatten()
    labels[positions] = ids.flatten()[positions]
    masked = ids.flatten().index_fill(0, positions, MASK).view_as(ids)
    return masked, labels.view_as(ids), positions


def curve(setting: str, seed: int, args: argparse.Namespace) -> list[float]:
    """Training losses in nats, one a step."""
    torch.manual_seed(seed)
    config = ElcConfig(
        layer_mixing=args.variant,
        layer_norm_dtype=setting,
        vocab_size=VOCABULARY,
        hidden_size=args.width,
        intermediate_size=8 * args.width // 3,
        num_hidden_layers=args.layers,
        num_attention_heads=max(1, args.width // 64),
        max_position_embeddings=max(args.length, 64),
    )
    model = ElcForMaskedLM(config).to(args.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, betas=(0.9, 0.98))
    generator, successors, losses = torch.Generator().manual_seed(seed), source(seed), []
    for step in range(args.steps):
        for group in optimizer.param_groups:
            group["lr"] = args.lr * min(1.0, (step + 1) / 50)
        ids, labels, positions = (part.to(args.device) for part in batch(successors, args.rows, args.length, generator))
        with torch.autocast(args.device, torch.bfloat16):
            loss = model(ids, None, labels, masked_positions=positions).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses).tolist()


def main() -> None:
    """Run both settings for each seed, print the means of the last tenth and write all curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--variant", default="base")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--out", type=Path)
    for name, value in (("layers", 4), ("width", 64), ("rows", 16), ("length", 32), ("steps", 300), ("seeds", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    started, curves = time.perf_counter(), {setting: [] for setting in SETTINGS}
    tail = max(1, args.steps // 10)
    for seed in range(args.seeds):
        for setting in SETTINGS:
            losses = curve(setting, seed, args)
            curves[setting].append(losses)
            print(f"seed {seed} {setting}: last {tail} steps {sum(losses[-tail:]) / tail:.4f} nats", flush=True)
    ends = {setting: [sum(c[-tail:]) / tail for c in found] for setting, found in curves.items()}
    differences = [a - b for a, b in zip(ends["autocast"], ends["float32"], strict=True)]
    print(f"autocast minus float32: {', '.join(f'{d:+.4f}' for d in differences)}")
    shape = {key: value for key, value in vars(args).items() if key != "out"}
    result = {
        "shape": shape,
        "torch": torch.__version__,
        "machine": torch.cuda.get_device_name() if args.device == "cuda" else platform.machine(),
        "seconds": round(time.perf_counter() - started, 1),
        "mean_of_last_tenth": ends,
        "autocast_minus_float32": differences,
        "losses": {s: [[round(x, 4) for x in c] for c in found] for s, found in curves.items()},
    }
    out = args.out or Path(__file__).parent / "results" / f"norm_precision_{args.device}.json"
    out.write_text(json.dumps(result) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
