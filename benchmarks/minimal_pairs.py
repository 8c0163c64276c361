"""Pairs a second of this evaluator and of minicons: same model, pairs and machine, in turns.

    python benchmarks/minimal_pairs.py MODEL --minimal-pairs DIR [--pairs 200] [--device cpu] [--dtypes float32 ...]

MODEL is a transformers folder, or `small` / `base` (also `--size`): a random model of the published size, with the
tokenizer of `--tokenizer`. Each setting is measured `--rounds` times, in turns with all others; its best round counts.
A setting that fails is reported under `error`, and the others continue. On a shared CPU, `--clock cpu` counts the
processor time of all threads instead of wall time. `--full` besides scores all pairs once, with the fastest setting of
ours. `--kernels` compares implementations of attention and mixing. `--quick` tries everything with a tiny model.
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
from elc_composer.model.kernels import KERNELS

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2},
    "small": {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 12, "num_attention_heads": 6},
    "base": {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 12},
}
Score = Callable[..., np.ndarray]
Settings = dict[str, Score]
FULL = {"BLiMP, filtered": 59_875, "supplement": 5_218}


def main() -> None:
    options = arguments()
    described = machine(options.device)
    pairs = read_minimal_pairs(options.minimal_pairs)
    sample = random.Random(0).sample(pairs, min(options.pairs, len(pairs)))
    settings: Settings = {}
    errors: dict[str, str] = {}
    parameters = None
    with tempfile.TemporaryDirectory() as folder:
        location = model_folder(options, Path(folder))
        for dtype in options.dtypes:
            try:
                model, tokenizer = load_model_and_tokenizer(location, dtype=dtype, device=options.device)
                parameters = sum(parameter.numel() for parameter in model.parameters())
            except Exception as error:
                errors[dtype] = one_line(error)
                continue
            settings.update(ours(model, tokenizer, sample, dtype, options))
            if options.batch_sizes:
                try:
                    settings.update(minicons(model, tokenizer, sample, dtype, options))
                except Exception as error:
                    errors[f"minicons {dtype}"] = one_line(error)
    report = {
        "machine": described,
        "date": date.today().isoformat(),
        "model": {"name": options.name or Path(options.model).name, "parameters": parameters},
        "minicons": version("minicons") if find_spec("minicons") else None,
        "pairs": len(sample),
        "clock": options.clock,
        **measure(settings, sample, options, errors),
    }
    # Written before the full run, which may take long.
    write(report, options)
    if options.full:
        report["full"] = full(settings, report["pairs_per_second"], pairs)
        write(report, options)
    print(json.dumps(report, indent=2))


def write(report: dict[str, Any], options: argparse.Namespace) -> None:
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n")


def one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def arguments() -> argparse.Namespace:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("model", nargs="?")
    parse.add_argument("--size", choices=list(SIZES), help="the same as MODEL small or base")
    parse.add_argument("--name", help="of the model, in the results; default: MODEL's last part")
    parse.add_argument("--minimal-pairs", required=True)
    parse.add_argument("--tokenizer", type=Path, help="tokenizer.json for a model by size")
    parse.add_argument("--pairs", type=int, default=200)
    parse.add_argument("--full", action="store_true", help="besides score all pairs once, without minicons")
    parse.add_argument("--rounds", type=int, default=3)
    parse.add_argument("--device", default="cpu")
    parse.add_argument("--threads", type=int, help="of torch, on a CPU")
    parse.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parse.add_argument("--batch-sizes", nargs="*", type=int, help="sentences, for minicons; none: leave it out")
    parse.add_argument("--tokens", nargs="+", type=int, help="tokens per batch, for ours")
    parse.add_argument("--kernels", nargs="+", default=["auto"], choices=KERNELS, help="for ours")
    parse.add_argument("--tf32", action="store_true", help="float32 products in TF32 on a GPU, for both")
    parse.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parse.add_argument("--quick", action="store_true", help="a tiny model, 4 pairs, one round: to try the command")
    parse.add_argument("--out", type=Path, default=Path("benchmarks/results/minimal_pairs.json"))
    options = parse.parse_args()
    if options.model and options.size:
        parse.error("give MODEL or --size, not both")
    if options.quick:
        options.model = options.model if options.model and options.model not in SIZES else "tiny"
        options.pairs, options.rounds = min(options.pairs, 4), 1
        options.batch_sizes = [2] if options.batch_sizes is None else options.batch_sizes[:1]
        options.tokens = [1024]
    options.model = options.model or options.size
    if options.model is None:
        parse.error(f"give MODEL, or --size with one of {', '.join(SIZES)}")
    if options.model in SIZES and options.tokenizer is None:
        parse.error(f"{options.model}: give the tokenizer.json with --tokenizer")
    on_gpu = options.device.startswith("cuda")
    if options.tokens is None:
        options.tokens = [16_384, 65_536] if on_gpu else [1024, 2048, 4096]
    if options.batch_sizes is None:
        options.batch_sizes = [64, 256] if on_gpu else [1, 2, 4, 8, 16, 32]
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.backends.cuda.matmul.allow_tf32 = options.tf32
    return options


def model_folder(options: argparse.Namespace, folder: Path) -> Path:
    if options.model not in SIZES:
        return Path(options.model)
    torch.manual_seed(0)
    entries = json.loads(options.tokenizer.read_text())["model"]["vocab"]
    config = ElcConfig(layer_mixing="zero", vocab_size=len(entries), **SIZES[options.model])
    with torch.device(options.device):
        model = ElcForMaskedLM(config)
    return export_model(model.cpu(), options.tokenizer, folder / "model")


def ours(model: torch.nn.Module, tokenizer: Any, pairs: list[Any], dtype: str, options: argparse.Namespace) -> Settings:
    def setting(kernels: str, tokens: int) -> Score:
        def run(some: list[Any] | None = None) -> np.ndarray:
            use(model, kernels)
            return score_pairs(model, tokenizer, some or pairs, ScoringConfig(tokens_per_batch=tokens)).scores

        return run

    return {
        f"ours {dtype} {tokens} tokens" + ("" if kernels == "auto" else f" {kernels}"): setting(kernels, tokens)
        for kernels in options.kernels
        for tokens in options.tokens
    }


def use(model: torch.nn.Module, kernels: str) -> None:
    """Make a model of this project use these kernels; another model has none."""
    for module in model.modules():
        if hasattr(module, "kernels"):
            module.kernels = kernels  # type: ignore[assignment]
    config: Any = model.config
    if hasattr(config, "kernels"):
        config.kernels = kernels


def minicons(
    model: torch.nn.Module, tokenizer: Any, pairs: list[Any], dtype: str, options: argparse.Namespace
) -> Settings:
    from minicons.scorer import MaskedLMScorer

    if not hasattr(tokenizer, "batch_encode_plus"):
        # transformers 5 dropped the method that minicons calls.
        type(tokenizer).batch_encode_plus = lambda self, texts, **more: self(texts, **more)
    scorer = MaskedLMScorer(model, device=options.device, tokenizer=tokenizer)
    texts = [text for pair in pairs for text in (pair.sentence_good, pair.sentence_bad)]

    def setting(size: int) -> Score:
        def run(some: list[Any] | None = None) -> np.ndarray:
            use(model, "auto")
            scores: list[float] = []
            for start in range(0, len(texts), size):
                scores += scorer.sequence_score(texts[start : start + size], reduction=lambda x: x.sum().item())
            return np.array(scores).reshape(-1, 2)

        return run

    return {f"minicons {dtype} {size} sentences": setting(size) for size in options.batch_sizes}


def full(settings: Settings, speed: dict[str, float], pairs: list[Any]) -> dict[str, Any]:
    """All pairs once, tokenization included, with the fastest setting of ours."""
    own = {name: value for name, value in speed.items() if name.startswith("ours")}
    if not own:
        return {"error": "no setting of ours works"}
    name = max(own, key=own.__getitem__)
    began = time.perf_counter()
    try:
        settings[name](pairs)
    except Exception as error:
        return {"setting": name, "error": one_line(error)}
    seconds = time.perf_counter() - began
    return {
        "setting": name,
        "pairs": len(pairs),
        "seconds": round(seconds, 2),
        "pairs_per_second": round(len(pairs) / seconds, 1),
    }


def measure(
    settings: Settings, pairs: list[Any], options: argparse.Namespace, errors: dict[str, str]
) -> dict[str, Any]:
    clock = time.perf_counter if options.clock == "wall" else time.process_time
    seconds: dict[str, list[float]] = {name: [] for name in settings}
    scores: dict[str, np.ndarray] = {}
    for _ in range(options.rounds):
        for name, run in list(settings.items()):
            began = clock()
            try:
                scores[name] = run()
            except Exception as error:
                errors[name] = one_line(error)
                print(f"{name}: {errors[name]}", flush=True)
                del settings[name], seconds[name]
                continue
            seconds[name].append(clock() - began)
    speed = {name: len(pairs) / min(times) for name, times in seconds.items() if times}
    result: dict[str, Any] = {"pairs_per_second": {name: round(value, 2) for name, value in speed.items()}}
    if errors:
        result["error"] = errors
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
    return {**found, "torch": torch.__version__, "transformers": version("transformers")}


if __name__ == "__main__":
    main()
