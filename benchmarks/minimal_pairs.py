"""Pairs a second of this evaluator and of minicons: same model, pairs and machine, in turns.

    python benchmarks/minimal_pairs.py MODEL --minimal-pairs DIR [--pairs 200] [--device cpu] [--dtypes float32 ...]

MODEL is a transformers folder, or `small` / `base`: a random model of the published size, with the tokenizer of
`--tokenizer`. Each setting is measured `--rounds` times, in turns with all others; its best round counts. On a shared
CPU, `--clock cpu` counts the processor time of all threads instead of wall time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import tempfile
import time
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from elc_composer.evaluation.config import ScoringConfig
from elc_composer.evaluation.minimal_pairs import read_minimal_pairs
from elc_composer.evaluation.models import load_model_and_tokenizer
from elc_composer.evaluation.score_pairs import score_pairs
from elc_composer.export import export_model
from elc_composer.model import ElcConfig, ElcForMaskedLM

SIZES = {
    "small": {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 12, "num_attention_heads": 6},
    "base": {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 12},
}
Settings = dict[str, Callable[[], np.ndarray]]
FULL = {"BLiMP, filtered": 59_875, "supplement": 5_218}


def main() -> None:
    options = arguments()
    described = machine(options.device)
    texts_and_pairs = sample(options)
    settings: Settings = {}
    with tempfile.TemporaryDirectory() as folder:
        location = model_folder(options, Path(folder))
        for dtype in options.dtypes:
            settings.update(ours(location, texts_and_pairs, dtype, options))
            try:
                settings.update(minicons(location, texts_and_pairs, dtype, options))
            except Exception as error:
                print(f"minicons {dtype} left out: {error!r}", flush=True)
        parameters = sum(p.numel() for p in load_model_and_tokenizer(location)[0].parameters())
    report = {
        "machine": described,
        "date": date.today().isoformat(),
        "model": {"name": options.name or Path(options.model).name, "parameters": parameters},
        "minicons": version("minicons") if find_spec("minicons") else None,
        "pairs": len(texts_and_pairs),
        "clock": options.clock,
        **measure(settings, len(texts_and_pairs), options),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def arguments() -> argparse.Namespace:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("model")
    parse.add_argument("--name", help="of the model, in the results; default: MODEL's last part")
    parse.add_argument("--minimal-pairs", required=True)
    parse.add_argument("--tokenizer", type=Path, help="tokenizer.json for `small` or `base`")
    parse.add_argument("--pairs", type=int, default=200)
    parse.add_argument("--full", action="store_true", help="all pairs; give minicons none with --batch-sizes")
    parse.add_argument("--rounds", type=int, default=3)
    parse.add_argument("--device", default="cpu")
    parse.add_argument("--threads", type=int, help="of torch, on a CPU")
    parse.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parse.add_argument(
        "--batch-sizes", nargs="*", type=int, default=[1, 2, 4, 8, 16, 32], help="sentences, for minicons"
    )
    parse.add_argument("--tokens", nargs="+", type=int, default=[1024, 2048, 4096], help="tokens per batch, for ours")
    parse.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parse.add_argument("--out", type=Path, default=Path("benchmarks/results/minimal_pairs.json"))
    options = parse.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    return options


def sample(options: argparse.Namespace) -> list[Any]:
    pairs = read_minimal_pairs(options.minimal_pairs)
    if options.full:
        return pairs
    return random.Random(0).sample(pairs, min(options.pairs, len(pairs)))


def model_folder(options: argparse.Namespace, folder: Path) -> Path:
    if options.model not in SIZES:
        return Path(options.model)
    torch.manual_seed(0)
    entries = json.loads(options.tokenizer.read_text())["model"]["vocab"]
    model = ElcForMaskedLM(ElcConfig(layer_mixing="zero", vocab_size=len(entries), **SIZES[options.model]))
    return export_model(model, options.tokenizer, folder / "model")


def ours(
    location: Path, pairs: list[Any], dtype: str, options: argparse.Namespace
) -> dict[str, Callable[[], np.ndarray]]:
    model, tokenizer = load_model_and_tokenizer(location, dtype=dtype, device=options.device)

    def run(tokens: int) -> np.ndarray:
        return score_pairs(model, tokenizer, pairs, ScoringConfig(tokens_per_batch=tokens)).scores

    return {f"ours {dtype} {tokens} tokens": lambda tokens=tokens: run(tokens) for tokens in options.tokens}


def minicons(location: Path, pairs: list[Any], dtype: str, options: argparse.Namespace) -> Settings:
    from minicons.scorer import MaskedLMScorer

    model, tokenizer = load_model_and_tokenizer(location, dtype=dtype, device=options.device)
    if not hasattr(tokenizer, "batch_encode_plus"):
        # transformers 5 dropped the method that minicons calls.
        type(tokenizer).batch_encode_plus = lambda self, texts, **more: self(texts, **more)
    scorer = MaskedLMScorer(model, device=options.device, tokenizer=tokenizer)
    texts = [text for pair in pairs for text in (pair.sentence_good, pair.sentence_bad)]

    def run(size: int) -> np.ndarray:
        scores: list[float] = []
        for start in range(0, len(texts), size):
            scores += scorer.sequence_score(texts[start : start + size], reduction=lambda x: x.sum().item())
        return np.array(scores).reshape(-1, 2)

    return {f"minicons {dtype} {size} sentences": lambda size=size: run(size) for size in options.batch_sizes}


def measure(settings: Settings, n: int, options: argparse.Namespace) -> dict[str, Any]:
    clock = time.perf_counter if options.clock == "wall" else time.process_time
    seconds: dict[str, list[float]] = {name: [] for name in settings}
    scores: dict[str, np.ndarray] = {}
    for _ in range(options.rounds):
        for name, run in list(settings.items()):
            began = clock()
            try:
                scores[name] = run()
            except Exception as error:
                print(f"{name} left out: {error!r}", flush=True)
                del settings[name], seconds[name]
                continue
            seconds[name].append(clock() - began)
    speed = {name: n / min(times) for name, times in seconds.items() if times}
    result: dict[str, Any] = {"pairs_per_second": {name: round(value, 2) for name, value in speed.items()}}
    for dtype in options.dtypes:
        names = {who: [k for k in speed if k.startswith(f"{who} {dtype}")] for who in ("ours", "minicons")}
        best = {who: max(found, key=speed.__getitem__) for who, found in names.items() if found}
        if len(best) < 2:
            result[dtype] = {"best": best}
            continue
        mine, theirs = scores[best["ours"]], scores[best["minicons"]]
        result[dtype] = {
            "best": best,
            "ours_over_minicons": round(speed[best["ours"]] / speed[best["minicons"]], 2),
            "largest_relative_difference": float((np.abs(mine - theirs) / np.abs(theirs)).max()),
            "same_decisions": float(((mine[:, 0] > mine[:, 1]) == (theirs[:, 0] > theirs[:, 1])).mean()),
            "estimated_hours": {name: round(count / speed[best["ours"]] / 3600, 2) for name, count in FULL.items()},
        }
    return result


def machine(device: str) -> dict[str, Any]:
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "",
    )
    found: dict[str, Any] = {
        "cpu": model or platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        # The load by other programs.
        "load_at_start": round(os.getloadavg()[0], 1),
    }
    if device.startswith("cuda"):
        found["gpu"] = torch.cuda.get_device_name(device)
    return {**found, "torch": torch.__version__}


if __name__ == "__main__":
    main()
