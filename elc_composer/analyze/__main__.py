"""Compares the layer weights of finished models and scores the models with small layer weights pruned.

python -m elc_composer.analyze CHECKPOINT [CHECKPOINT ...] --out DIR [--minimal-pairs DIR --prune 0.01 0.05 0.1]
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from elc_composer.analyze.output import Row, pruning_table, shares_table, write_pruning, write_shares
from elc_composer.analyze.pruning import Shares, count_pruned, pruned, shares_by_layer
from elc_composer.common.addresses import parse_optional_address, refuse_addresses
from elc_composer.common.errors import ConfigError, DataError
from elc_composer.evaluation.aggregate import ScoredPairs, summarize
from elc_composer.evaluation.config import MinimalPairsConfig, ScoringConfig
from elc_composer.evaluation.in_training.evaluators import draw_subset
from elc_composer.evaluation.minimal_pairs import MinimalPair, read_minimal_pairs
from elc_composer.evaluation.models import load_model_and_tokenizer, load_whole
from elc_composer.evaluation.score_pairs import score_pairs
from elc_composer.export import MODEL_CONFIG, beside
from elc_composer.model import ElcConfig, ElcForMaskedLM
from elc_composer.model_files import read_trainer_checkpoint
from elc_composer.model_files.published import read_json


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parse = argparse.ArgumentParser(prog="python -m elc_composer.analyze", description=(__doc__ or "").split("\n")[0])
    parse.add_argument("checkpoints", nargs="+", metavar="CHECKPOINT", help="run, checkpoint or exported folder")
    parse.add_argument("--out", required=True, type=Path, metavar="DIR", help="results as JSON and PNG")
    parse.add_argument("--minimal-pairs", metavar="DIR", help="folder of JSONL files in BLiMP's layout, or MDS folder")
    parse.add_argument(
        "--prune", nargs="+", type=float, metavar="SHARE", default=[], help="prune shares below each of these"
    )
    parse.add_argument("--each-layer", action="store_true", help="also prune one layer at a time")
    parse.add_argument("--subset", type=int, metavar="N", help="score N pairs of each paradigm, the same for all")
    parse.add_argument("--tokenizer", help="tokenizer folder, if it is not beside the model")
    parse.add_argument("--device", help="cpu, cuda, ...; default: a GPU if there is one")
    return parse


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code. An invalid input gives one line and exit code 2."""
    options = parser().parse_args(arguments)
    try:
        parse_optional_address(options.minimal_pairs or "", "--minimal-pairs")
        refuse_addresses({"CHECKPOINT": options.checkpoints, "--out": options.out, "--tokenizer": options.tokenizer})
        analyze(options)
    except (ConfigError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def analyze(options: argparse.Namespace) -> None:
    """Compare layer weights and, if options ask for it, prune and score.

    Raises:
        ConfigError: `--prune` without `--minimal-pairs` or the reverse, a threshold out of range, or a model without
            layer weights.
        DataError: a checkpoint or pairs that cannot be read.
    """
    if bool(options.prune) != bool(options.minimal_pairs):
        raise ConfigError("--prune SHARE and --minimal-pairs DIR need each other: give both or neither")
    if any(not 0 < threshold < 1 for threshold in options.prune):
        raise ConfigError(
            f"--prune {' '.join(map(str, options.prune))}: thresholds must be between 0 and 1, both excluded"
        )
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {options.out} cannot be created: {error.strerror}") from None
    pairs = read_pairs(options.minimal_pairs, options.subset) if options.minimal_pairs else []
    names = tell_apart(options.checkpoints)
    shares: dict[str, Shares] = {}
    results: dict[str, list[Row]] = {}
    for name, location in zip(names, options.checkpoints):
        model, tokenizer = load(location, options, with_tokenizer=bool(pairs))
        shares[name] = shares_by_layer(model)
        if not shares[name]:
            raise ConfigError(f"{location} has no layer weights: its variant (ltg) learns none; use another variant")
        if not all(math.isfinite(share) for row in shares[name].values() for share in row):
            raise DataError(f"{location} has layer weights that are NaN or infinite")
        if pairs:
            results[name] = prune_and_score(model, tokenizer, pairs, options.prune, options.each_layer)
    write_shares(options.out, shares)
    print(shares_table(shares))
    if results:
        write_pruning(options.out, len(pairs), results)
        print(f"\n{pruning_table(results)}")
    print(f"\nin {options.out}: {', '.join(sorted(path.name for path in options.out.iterdir()))}")


def load(location: str, options: argparse.Namespace, with_tokenizer: bool) -> tuple[nn.Module, Any]:
    """The model, and its tokenizer if `with_tokenizer` (else None)."""
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if with_tokenizer:
        return load_model_and_tokenizer(location, device=device, tokenizer=options.tokenizer)
    path = Path(location)
    if not path.exists():
        raise ConfigError(f"{path} does not exist: give a run folder, a checkpoint or an exported folder")
    if (path / "config.json").exists():
        kind = read_json(path / "config.json").get("model_type")
        if kind != ElcConfig.model_type:
            raise ConfigError(
                f"{path} contains a model of type {kind!r}, without layer weights; use {ElcConfig.model_type!r}"
            )
        return load_whole(ElcForMaskedLM, path), None
    config = beside(path, MODEL_CONFIG)
    if config is None:
        raise ConfigError(
            f"{path} is neither an exported folder (no config.json) nor part of a run (no {MODEL_CONFIG} beside it)"
        )
    return read_trainer_checkpoint(path, ElcConfig.from_dict(read_json(config))), None


def read_pairs(location: str, subset: int | None) -> list[MinimalPair]:
    """The pairs; with `subset`, that many of each paradigm, the same ones at every call."""
    return draw_subset(read_minimal_pairs(location), MinimalPairsConfig(path=location, subset_per_paradigm=subset))


def tell_apart(locations: Sequence[str]) -> list[str]:
    """Distinct short names: the last part of each path, or as many parts as make them distinct."""
    for parts in range(1, 6):
        names = ["/".join(Path(each).absolute().parts[-parts:]) for each in locations]
        if len(set(names)) == len(names):
            return names
    return [f"{number}: {each}" for number, each in enumerate(locations, start=1)]


def prune_and_score(
    model: nn.Module, tokenizer: Any, pairs: list[MinimalPair], thresholds: Sequence[float], each_layer: bool
) -> list[Row]:
    """One row for the unpruned model, one for each threshold, and (with `each_layer`) one for each of its layers."""
    shares = shares_by_layer(model)
    whole = score_pairs(model, tokenizer, pairs, ScoringConfig())
    rows = [_row(0.0, "none", (0, 0.0), whole, whole)]
    choices: list[tuple[str, list[str] | None]] = [("all", None)]
    choices += [(label, [label]) for label, row in shares.items() if len(row) > 1] if each_layer else []
    for layer, labels in choices:
        before, scored = 0, whole
        for threshold in sorted(set(thresholds)):
            gone = count_pruned(shares, threshold, labels)
            # A larger threshold prunes a superset: an equal number of sources means the same ones, and the same score.
            if gone[0] > before:
                scored = score_pairs(pruned(model, threshold, labels), tokenizer, pairs, ScoringConfig())
            rows.append(_row(threshold, layer, gone, scored, whole))
            before = gone[0]
    return rows


def _row(
    threshold: float, layers: str, gone: tuple[int, float], now: ScoredPairs, whole: ScoredPairs
) -> dict[str, Any]:
    summary = summarize(now)
    right = [(scored.scores[:, 0] > scored.scores[:, 1]) for scored in (whole, now)]
    return {
        "threshold": threshold,
        "layers": layers,
        "pruned_sources": gone[0],
        "largest_share_lost": gone[1],
        "accuracy": summary["accuracy"],
        "interval_95": summary["interval_95"],
        "pairs_lost": int(np.sum(right[0] & ~right[1])),
        "pairs_won": int(np.sum(~right[0] & right[1])),
        "phenomena": {name: entry["accuracy"] for name, entry in summary["phenomena"].items()},
    }


if __name__ == "__main__":
    sys.exit(main())
