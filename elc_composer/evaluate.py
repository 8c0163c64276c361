"""Scores a model on minimal pairs: `python -m elc_composer.evaluate MODEL --minimal-pairs DIR --out results.json`."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from elc_composer.common.addresses import parse_optional_address, refuse_addresses
from elc_composer.common.errors import ConfigError, DataError, one_line
from elc_composer.common.files import write_text
from elc_composer.evaluation import ranks as dist
from elc_composer.evaluation.aggregate import ScoredPairs, summarize
from elc_composer.evaluation.blimp import SUPPLEMENT_PARADIGMS
from elc_composer.evaluation.config import Method, Reduction, ScoringConfig, Ties, default_tokens_per_batch
from elc_composer.evaluation.minimal_pairs import MinimalPair, read_minimal_pairs
from elc_composer.evaluation.models import DTYPES, load_model_and_tokenizer
from elc_composer.evaluation.predictions import predictions
from elc_composer.evaluation.results import pair_rows, picture, table, write_results
from elc_composer.evaluation.score_pairs import model_sha256, score_pairs
from elc_composer.figures.canvas import save


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parse = argparse.ArgumentParser(prog="python -m elc_composer.evaluate", description=__doc__)
    parse.add_argument("model", help="transformers folder (an exported one, too) or a run's checkpoint")
    parse.add_argument("--minimal-pairs", required=True, help="folder of JSONL (BLiMP's layout), or MDS folder")
    parse.add_argument("--supplement", help="folder of the BabyLM supplement; reported separately")
    parse.add_argument(
        "--out",
        required=True,
        type=Path,
        help="JSON file for the results; a .png and predictions are written beside it",
    )
    parse.add_argument("--tokenizer", help="tokenizer folder; default: beside the model")
    parse.add_argument("--method", choices=[m.value for m in Method], default=Method.original.value)
    parse.add_argument("--reduction", choices=[r.value for r in Reduction], default=Reduction.sum.value)
    parse.add_argument("--temperature", type=float, default=1.0)
    parse.add_argument("--ties", choices=[t.value for t in Ties], default=Ties.half.value)
    parse.add_argument(
        "--dtype", choices=list(DTYPES), default="float32", help="dtype of the model; the softmax is in float32"
    )
    parse.add_argument("--device", help="cpu, cuda, cuda:1, ...; default: a GPU if there is one")
    parse.add_argument("--tokens-per-batch", type=int, help="default: 2,048 on a CPU, 65,536 on a GPU")
    parse.add_argument("--seed", type=int, default=0, help="seed of the bootstrap")
    parse.add_argument("--trust-remote-code", action="store_true", help="run code in the model's folder")
    return parse


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        for option, place in (("--minimal-pairs", options.minimal_pairs), ("--supplement", options.supplement or "")):
            parse_optional_address(place, option)
        refuse_addresses({"MODEL": options.model, "--out": options.out, "--tokenizer": options.tokenizer})
        evaluate(options)
    except (ConfigError, DataError, OSError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, SystemExit) as end:
        # Composer's handlers of SIGINT and SIGTERM exit with 128 plus the signal's number.
        print("interrupted; rerun the same command to resume", file=sys.stderr)
        return end.code if isinstance(end, SystemExit) and isinstance(end.code, int) else 130
    return 0


def evaluate(options: argparse.Namespace) -> dict[str, Any]:
    """Score, then write results, predictions and picture (rank 0); returns the results."""
    _check_out(options.out)
    device = _start(options.device)
    method = Method(options.method)
    tokens = options.tokens_per_batch or default_tokens_per_batch(device.type)
    scoring = ScoringConfig(method, Reduction(options.reduction), options.temperature, tokens)
    ties = Ties(options.ties)
    sets = read_sets(options.minimal_pairs, options.supplement)
    model, tokenizer = load_model_and_tokenizer(
        options.model,
        method=method,
        dtype=options.dtype,
        device=device,
        trust_remote_code=options.trust_remote_code,
        tokenizer=options.tokenizer,
    )
    everything = [pair for pairs in sets.values() for pair in pairs]
    began = time.monotonic()
    ledger = options.out.with_name(options.out.name + ".partial")
    scored = score_pairs(
        model, tokenizer, everything, scoring, device=device, ledger_folder=ledger, progress=sys.stderr.isatty()
    )
    seconds = time.monotonic() - began
    owner = np.repeat(np.arange(len(sets)), [len(pairs) for pairs in sets.values()])
    by_set = {name: scored.subset(owner == i) for i, name in enumerate(sets)}
    settings = {
        "method": method.value,
        "reduction": scoring.reduction.value,
        "temperature": scoring.temperature,
        "ties": ties.value,
        "dtype": options.dtype,
        "bootstrap_seed": options.seed,
    }
    results: dict[str, Any] = {
        "format_version": 1,
        "model": {
            "path": str(options.model),
            "sha256": model_sha256(model),
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
        },
        "settings": settings,
        "sets": {name: summarize(part, ties, options.seed) for name, part in by_set.items()},
        "pairs": [row for name, part in by_set.items() for row in pair_rows(name, part, ties)],
    }
    if dist.get_global_rank() == 0:
        _write(options, results, by_set, ties)
        print(table(results["sets"]))
        print(f"\n{len(everything):,} pairs in {seconds:.0f} s; results: {options.out}")
    dist.barrier()
    if dist.get_local_rank() == 0:
        # Only after the results are written, which can fail (full disk).
        shutil.rmtree(ledger, ignore_errors=True)
    return results


def read_sets(minimal_pairs: str, supplement: str | None) -> dict[str, list[MinimalPair]]:
    """Sets by name; supplement tasks among the pairs become a set of their own."""
    pairs = read_minimal_pairs(minimal_pairs)
    extra = [pair for pair in pairs if pair.paradigm in SUPPLEMENT_PARADIGMS]
    if supplement is not None and extra:
        raise ConfigError(f"{minimal_pairs} holds {extra[0].paradigm} of the supplement; leave out --supplement")
    extra = extra if supplement is None else read_minimal_pairs(supplement)
    twice = {pair.paradigm for pair in pairs} & {pair.paradigm for pair in extra} if supplement is not None else set()
    if twice:
        raise ConfigError(f"{minimal_pairs} and {supplement} both hold {min(twice)}; leave out one of them")
    sets = {"blimp": [pair for pair in pairs if pair.paradigm not in SUPPLEMENT_PARADIGMS], "supplement": extra}
    return {name: members for name, members in sets.items() if members}


def _check_out(out: Path) -> None:
    """Check the output path before scoring, which can take hours."""
    if out.is_dir() or out.suffix == ".png":
        raise ConfigError(f"--out {out} must be a JSON file such as results.json (the picture gets its name with .png)")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {out}: {out.parent} cannot be made ({error.strerror})") from None
    if not os.access(out.parent, os.W_OK):
        raise ConfigError(f"--out {out}: {out.parent} cannot be written to")


def _start(name: str | None) -> torch.device:
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError:
        raise ConfigError(f"--device {name} is not a device; give cpu, cuda, cuda:1, ...") from None
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", dist.get_local_rank())
        torch.cuda.set_device(device)
    if dist.get_world_size() > 1 and not dist.is_initialized():
        from elc_composer.common.process_group import join_process_group

        join_process_group("gpu" if device.type == "cuda" else "cpu")
    return device


def _write(options: argparse.Namespace, results: dict[str, Any], by_set: dict[str, ScoredPairs], ties: Ties) -> None:
    write_results(options.out, results)
    layout = json.dumps(predictions(by_set, ties), ensure_ascii=False)
    write_text(options.out.with_name(f"{options.out.stem}.predictions.json"), layout + "\n")
    title = f"Minimal pairs: {os.path.basename(os.path.normpath(options.model))}"
    save(picture(results["sets"], title), options.out.with_suffix(".png"))


if __name__ == "__main__":
    sys.exit(main())
