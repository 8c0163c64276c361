"""Predict the time of a training step on a GPU part by part, from operations, bytes and measured rates.

python benchmarks/roofline.py [--size base] [--rows 256] [--length 128] [--variant base] [--compiled] [--norms bf16]
                              [--attention present|transposed] [--mixing kernels|chain] [--first-mix]
                              [--check PROFILE.json] [--out FILE]

A part's time is its bytes over the share of the copy rate that such kernels reach, or its operations over the rate of
its unit. The shares in `Rates` were fitted to one profile (benchmarks/results/h200_2026-11-26.json, uncompiled, 256 x
128); attention at 512 tokens and everything compiled were predicted from them. `--check` compares with the JSON of
`profile_step.py` (or of `gpu.sh`) and prints the deviation of each part; 15 % is the aim. Parts have the names of
`profile_step.py`. In compiled code, kernels fuse several parts: these are compared as one, "fused elementwise".
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from contestants import SIZES, elc

from elc_composer.data.masking import MaskingConfig
from elc_composer.data.positions import LabelPositions

ATTENTION = ("attention forward", "attention backward")
FUSED = ("layer norms", "GELU", "dropout", "bias gradients and sums", "casts and copies", "other elementwise")
FUSED_NAME = "fused elementwise"
WARP, TILE = 32, 64
BF16, FLOAT32 = 2, 4


@dataclass(frozen=True)
class Rates:
    """One H200 as measured, and the shares of its rates that kinds of kernels reach."""

    matrix: float = 717e12
    """FLOP/s of a step's products; a single large one has 750e12 to 784e12."""
    copy: float = 4.2e12
    """Bytes/s, read plus written."""
    processors: int = 132
    clock: float = 1.755e9
    issue: float = 0.5
    """Share of the warp instructions that attention kernels could issue: 4 a cycle and processor."""
    elementwise: float = 0.65
    strided: float = 0.44
    """GELU on every second half of a row."""
    dropout: float = 0.84
    reduction: float = 0.24
    """Sums over rows: bias gradients."""
    compiled: float = 0.8
    """Fused elementwise kernels."""
    host_per_kernel: float = 36e-6
    """Seconds the host needs to issue one kernel, autograd included."""


@dataclass(frozen=True)
class Options:
    """What is run."""

    size: str = "base"
    variant: str = "base"
    rows: int = 256
    length: int = 128
    compiled: bool = False
    norms: str = "float32"
    """Dtype that LayerNorms read and write under autocast, and with it that of the states: float32 or bf16."""
    attention: str = "present"
    """`present`, or `transposed`: look-ups whose loads touch 32 cache lines, as before 2026-11-27."""
    mixing: str = "kernels"
    """`kernels`: the linked form with Triton; `chain`: the plain form, fused by the compiler."""
    first_mix: bool = False
    """The first layer's mix, of one state with share 1, is computed, too."""


@dataclass(frozen=True)
class Part:
    """FLOPs and bytes of a step, and seconds."""

    flops: float
    bytes: float
    seconds: float


@dataclass(frozen=True)
class Lookups:
    """Costs of a score in the attention kernels, counted in code compiled for sm_90."""

    passes: float
    """Passes through the L1 cache for a tile of 64 x 64 scores."""
    forward: float
    """Warp instructions of a tile over its scores; likewise the two below."""
    query_gradient: float
    key_gradient: float


LOOKUPS = {"present": Lookups(760, 1.46, 2.69, 2.90), "transposed": Lookups(8696, 1.46, 3.60, 4.04)}


def shape_of(options: Options) -> tuple[Any, int, int]:
    """Config, tokens, and positions at which the head runs."""
    with torch.device("meta"):
        config = elc(options.size, layer_mixing=options.variant, longest=max(512, options.length)).config
    return config, options.rows * options.length, LabelPositions(MaskingConfig()).places(options.rows, options.length)


def product_flops(options: Options) -> float:
    """FLOPs of the matrix products outside of the attention kernels, forward and backward."""
    config, tokens, read = shape_of(options)
    size, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    buckets = 2 * config.position_bucket_size - 1
    # Projections, the scores of tokens with buckets, and the projection of the buckets' embeddings.
    everywhere = layers * ((6 * size * size + 4 * buckets * size) * tokens + 4 * size * size * buckets)
    where_read = 2 * (size * size + 3 * size * inner) * ((layers - 1) * tokens + read)
    return 3.0 * (everywhere + where_read + 2 * size * (size + config.vocab_size) * read)


def attention_flops(options: Options) -> float:
    """FLOPs that the attention kernels must do: scores and weighted values, forward and backward."""
    config, tokens, _ = shape_of(options)
    return 3.0 * config.num_hidden_layers * 4 * options.length * config.hidden_size * tokens


def attention(options: Options, rates: Rates) -> dict[str, Part]:
    """Forward and backward kernels: bound by instructions and by passes through the L1 cache."""
    config, tokens, _ = shape_of(options)
    scores = config.num_hidden_layers * config.num_attention_heads * tokens * options.length
    costs = LOOKUPS[options.attention]
    per_second = rates.processors * rates.clock
    passes = costs.passes / TILE**2 / per_second
    issue = 4 * per_second * rates.issue

    def seconds(instructions: float) -> float:
        return instructions / issue

    width = config.num_hidden_layers * tokens * config.hidden_size * BF16
    flops = attention_flops(options)
    moved = 4 * width / rates.copy  # queries, keys, values, result
    # The backward kernels fill the registers: too few warps to overlap look-ups with arithmetic.
    forward = scores * max(passes, seconds(costs.forward))
    backward = scores * (2 * passes + seconds(costs.query_gradient) + seconds(costs.key_gradient))
    return {
        "attention forward": Part(flops / 3, 4 * width, max(forward, moved)),
        "attention backward": Part(flops * 2 / 3, 10 * width, max(backward, 2.5 * moved)),
    }


def mixing_bytes(options: Options, state: int) -> float:
    """Bytes of one step's mixes: forward, gradients of states, inner products."""
    config, tokens, _ = shape_of(options)
    if not config.mixing_rule.learned:
        return 0.0
    layers = config.num_hidden_layers
    read = layers * (layers + 1) // 2 + (layers + 1 if config.mixing_rule.mixed_output else 0)
    readers = layers + bool(config.mixing_rule.mixed_output)
    if not options.first_mix:
        read, readers = read - 1, readers - 1
    passes = 3 * (read + readers)
    if options.mixing == "chain":
        # The compiler fuses a mix, but each state's gradient is read and written at every layer that reads it.
        passes = (read + readers) + (read + readers) + (3 * read)
    return float(passes * tokens * config.hidden_size * state)


def elementwise_bytes(options: Options, state: int) -> dict[str, float]:
    """Bytes of the uncompiled elementwise and reducing kernels by part."""
    config, tokens, read = shape_of(options)
    rule, layers = config.mixing_rule, config.num_hidden_layers
    wide = float(tokens * config.hidden_size * layers)
    inner = float(tokens * config.intermediate_size * layers)
    parameters = 12 * config.hidden_size**2 * layers + config.vocab_size * config.hidden_size
    normed = 3 * wide + inner + (wide if rule.normalized else 0)
    # Forward reads and writes; backward reads two tensors and writes one.
    norms = 5 * state * normed
    # With norms in float32: their results are cast for the products (twice for queries and keys, and values), products'
    # results for the norms, and the same gradients back.
    casts = 2 * (FLOAT32 + BF16) * (4 * wide + 2 * inner) if state == FLOAT32 else 0.0
    adds = 1 + (rule.residual or rule.mlp_reads_input)
    return {
        "layer norms": norms,
        "GELU": 5 * BF16 * inner,
        # With a byte of mask: of the attention's normed output, and of the feed-forward's product.
        "dropout": 2 * (2 * state + 1 + 2 * BF16 + 1) * wide,
        "bias gradients and sums": 4 * BF16 * wide,
        "casts and copies": casts + 12.0 * parameters,
        # The gated unit but for its GELU (one product, two in the backward, putting the halves together), and sums of
        # two tensors, each with a sum of gradients.
        "other elementwise": 13 * BF16 * inner + 2 * 3 * state * wide * adds,
        "embedding, softmax, loss": 32.0 * read * config.vocab_size + 8.0 * tokens * config.hidden_size,
    }


def fused_bytes(options: Options, state: int) -> float:
    """Bytes of compiled code: a norm with the casts, dropout and additions around it is one kernel each way."""
    config, tokens, _ = shape_of(options)
    layers = config.num_hidden_layers
    wide = float(tokens * config.hidden_size * layers)
    inner = float(tokens * config.intermediate_size * layers)
    norms = 3 * (2 * BF16 + 3 * state)
    dropout = 2 * (3 * BF16 + 3 * state)
    gate = 12 * BF16
    parameters = 12 * config.hidden_size**2 * layers + config.vocab_size * config.hidden_size
    return (norms + dropout) * wide + gate * inner + 12.0 * parameters


def kernels(options: Options) -> int:
    """Kernels that a step launches, about: fitted to 1,592 for the base size, uncompiled."""
    layers = SIZES[options.size].get("num_hidden_layers", 12)
    return (50 if options.compiled else 126) * layers + 80


def predict(options: Options, rates: Rates | None = None) -> dict[str, Part]:
    """FLOPs, bytes and seconds of every part of a step."""
    rates = rates or Rates()
    state = BF16 if options.norms == "bf16" else FLOAT32
    flops = product_flops(options)
    parts = {"matrix products": Part(flops, 0.0, flops / rates.matrix), **attention(options, rates)}
    mixing = mixing_bytes(options, state)
    parts["layer mixing"] = Part(0.0, mixing, mixing / rates.copy)
    found = elementwise_bytes(options, state)
    shares = {"GELU": rates.strided, "dropout": rates.dropout, "bias gradients and sums": rates.reduction}
    if options.compiled:
        bias = found["bias gradients and sums"]
        fused = fused_bytes(options, state)
        seconds = fused / rates.copy / rates.compiled + bias / rates.copy / rates.reduction
        parts[FUSED_NAME] = Part(0.0, fused + bias, seconds)
        found = {"embedding, softmax, loss": found["embedding, softmax, loss"]}
    for name, moved in found.items():
        parts[name] = Part(0.0, moved, moved / rates.copy / shares.get(name, rates.elementwise))
    return parts


def step_seconds(options: Options, rates: Rates | None = None) -> float:
    """Seconds of a step: of its kernels, or of the host that issues them."""
    rates = rates or Rates()
    return max(sum(p.seconds for p in predict(options, rates).values()), kernels(options) * rates.host_per_kernel)


def model_flops(options: Options) -> float:
    """FLOPs that count for MFU, as `estimate_flops` says."""
    return product_flops(options) + attention_flops(options)


def profiles_in(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Profiles in the JSON of `profile_step.py` or of `gpu.sh`."""
    if "milliseconds" in content:
        return [content]
    pieces = content.get("pieces", {})
    found = [one.get("result") for piece in pieces.values() for one in piece.values()]
    return [one for one in found if one and "milliseconds" in one and "variant" in one and one["size"] in SIZES]


def check(profile: dict[str, Any], options: Options, rates: Rates) -> dict[str, dict[str, Any]]:
    """Measured and predicted milliseconds of each part of each GPU form in a profile, and relative deviation."""
    report = {}
    for form, measured in profile["milliseconds"].items():
        if form not in ("triton", "auto"):
            continue
        own = replace(
            options, size=profile["size"], variant=profile["variant"], rows=profile["rows"], length=profile["length"],
            compiled=profile.get("compiled", False),
        )  # fmt: skip
        predicted = {name: 1000 * part.seconds for name, part in predict(own, rates).items()}
        found = dict(measured)
        if own.compiled:
            found[FUSED_NAME] = sum(found.pop(name, 0.0) for name in FUSED)
        rows = {}
        for name in dict.fromkeys([*predicted, *found]):
            seen, expected = found.get(name, 0.0), predicted.get(name, 0.0)
            rows[name] = {
                "measured": round(seen, 2),
                "predicted": round(expected, 2),
                "deviation": round(expected / seen - 1, 3) if seen else None,
            }
        total_seen, total = sum(found.values()), sum(predicted.values())
        rows["all kernels"] = {
            "measured": round(total_seen, 2),
            "predicted": round(total, 2),
            "deviation": round(total / total_seen - 1, 3),
        }
        report[form] = rows
    return report


def parse(arguments: list[str] | None = None) -> tuple[argparse.Namespace, Options, Rates]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="base")
    parser.add_argument("--variant", default="base")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--norms", choices=["float32", "bf16"], default="bf16")
    parser.add_argument("--attention", choices=list(LOOKUPS), default="present")
    parser.add_argument("--mixing", choices=["kernels", "chain"], default="kernels")
    parser.add_argument("--first-mix", action="store_true")
    parser.add_argument("--matrix-rate", type=float, default=Rates.matrix, help="FLOP/s of the step's products")
    parser.add_argument("--copy-rate", type=float, default=Rates.copy, help="bytes/s, read plus written")
    parser.add_argument("--mfu-rate", type=float, default=770e12, help="FLOP/s that MFU is a share of")
    parser.add_argument("--check", type=Path, help="JSON of profile_step.py or gpu.sh")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(arguments)
    rows = args.rows or 32768 // args.length
    options = Options(
        args.size, args.variant, rows, args.length, args.compiled, args.norms, args.attention, args.mixing,
        args.first_mix,
    )  # fmt: skip
    return args, options, Rates(matrix=args.matrix_rate, copy=args.copy_rate)


def main() -> None:
    args, options, rates = parse()
    if args.check:
        reports = []
        for profile in profiles_in(json.loads(args.check.read_text())):
            for form, rows in check(profile, options, rates).items():
                how = "compiled" if profile.get("compiled") else "uncompiled"
                print(f"{form}, {how}, {profile['rows']} x {profile['length']}, {options.norms} norms")
                print(f"| {'part':<26} | measured ms | predicted ms | deviation |\n|---|---|---|---|")
                for name, row in rows.items():
                    share = f"{100 * row['deviation']:+.0f} %" if row["deviation"] is not None else ""
                    print(f"| {name:<26} | {row['measured']:11.1f} | {row['predicted']:12.1f} | {share:>9} |")
                reports.append({"form": form, "compiled": how, "length": profile["length"], "parts": rows})
        if args.out:
            args.out.write_text(json.dumps(reports, indent=2) + "\n")
        return
    parts = predict(options, rates)
    print(f"| {'part':<26} | TFLOP | GB | ms |\n|---|---|---|---|")
    for name, part in parts.items():
        print(f"| {name:<26} | {part.flops / 1e12:5.2f} | {part.bytes / 1e9:5.1f} | {1000 * part.seconds:5.1f} |")
    seconds = step_seconds(options, rates)
    mfu = model_flops(options) / seconds / args.mfu_rate
    host = kernels(options) * rates.host_per_kernel
    print(
        f"step {1000 * seconds:.1f} ms, MFU {100 * mfu:.1f} %; host {1000 * host:.0f} ms for {kernels(options)} kernels"
    )
    if args.out:
        content = {
            name: {"flops": p.flops, "bytes": p.bytes, "milliseconds": 1000 * p.seconds} for name, p in parts.items()
        }
        args.out.write_text(
            json.dumps({"step_milliseconds": 1000 * seconds, "mfu": mfu, "parts": content}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
