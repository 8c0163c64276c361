"""What finished models' layers read, and what is lost when small layer weights are pruned.

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
from elc_composer.analyze.pruning import Shares, count_pruned, layer_shares, pruned
from elc_composer.common.errors import ConfigError, DataError
from elc_composer.common.json_files import read_object
from elc_composer.common.run_folder import MODEL_CONFIG
from elc_composer.evaluation.aggregate import ScoredPairs, summarize
from elc_composer.evaluation.config import MinimalPairsConfig, ScoringConfig
from elc_composer.evaluation.in_training.evaluators import draw_subset
from elc_composer.evaluation.minimal_pairs import MinimalPair, read_minimal_pairs
from elc_composer.evaluation.models import load_model_and_tokenizer, load_whole
from elc_composer.evaluation.score_pairs import score_pairs
from elc_composer.model import ElcConfig, ElcForMaskedLM
from elc_composer.model_files import read_trainer_checkpoint
from elc_composer.model_files.run_model import beside, read_model_config


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parse = argparse.ArgumentParser(prog="python -m elc_composer.analyze", description=(__doc__ or "").split("\n")[0])
    parse.add_argument("checkpoints", nargs="+", metavar="CHECKPOINT", help="run, checkpoint or exported folder")
    parse.add_argument("--out", required=True, type=Path, metavar="DIR", help="results as JSON and PNG")
    parse.add_argument("--minimal-pairs", metavar="DIR", help="folder of JSONL (BLiMP's layout), or MDS folder")
    parse.add_argument(
        "--prune", nargs="+", type=float, metavar="SHARE", default=[], help="prune shares below each of these"
    )
    parse.add_argument("--each-layer", action="store_true", help="also prune one layer at a time")
    parse.add_argument("--subset", type=int, metavar="N", help="score N pairs of each paradigm, the same for all")
    parse.add_argument("--tokenizer", help="tokenizer folder, where it is not beside the model")
    parse.add_argument("--device", help="cpu, cuda, ...; default: a GPU if there is one")
    return parse


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code. Bad input ends with one line and exit code 2."""
    options = parser().parse_args(arguments)
    try:
        analyze(options)
    except (ConfigError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def analyze(options: argparse.Namespace) -> None:
    """Compare layer weights; prune and score where asked to.

    Raises:
        ConfigError: options that do not go together, a threshold out of range, a model without layer weights.
        DataError: a checkpoint or pairs that cannot be read.
    """
    if bool(options.prune) != bool(options.minimal_pairs):
        raise ConfigError("--prune SHARE and --minimal-pairs DIR belong together: give both or neither")
    if any(not 0 < threshold < 1 for threshold in options.prune):
        raise ConfigError(f"--prune {' '.join(map(str, options.prune))}: shares lie between 0 and 1")
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {options.out} cannot be made: {error.strerror}") from None
    pairs = read_pairs(options.minimal_pairs, options.subset) if options.minimal_pairs else []
    names = tell_apart(options.checkpoints)
    shares: dict[str, Shares] = {}
    results: dict[str, list[Row]] = {}
    for name, location in zip(names, options.checkpoints):
        model, tokenizer = load(location, options, with_tokenizer=bool(pairs))
        shares[name] = layer_shares(model)
        if not shares[name]:
            raise ConfigError(f"{location} has no layer weights: of the variants, ltg learns none")
        if not all(math.isfinite(share) for row in shares[name].values() for share in row):
            raise DataError(f"{location} has layer weights that are no numbers")
        if pairs:
            results[name] = prune_and_score(model, tokenizer, pairs, options.prune, options.each_layer)
    write_shares(options.out, shares)
    print(shares_table(shares))
    if results:
        write_pruning(options.out, len(pairs), results)
        print(f"\n{pruning_table(results)}")
    print(f"\nin {options.out}: {', '.join(sorted(path.name for path in options.out.iterdir()))}")


def load(location: str, options: argparse.Namespace, with_tokenizer: bool) -> tuple[nn.Module, Any]:
    """The model, and its tokenizer where pairs are to be scored."""
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if with_tokenizer:
        return load_model_and_tokenizer(location, device=device, tokenizer=options.tokenizer)
    path = Path(location)
    if not path.exists():
        raise ConfigError(f"{path} does not exist: give a run, a checkpoint or an exported folder")
    if (path / "config.json").exists():
        kind = read_object(path / "config.json").get("model_type")
        if kind != ElcConfig.model_type:
            raise ConfigError(f"{path} holds a model of type {kind!r}, which has no layer weights")
        return load_whole(ElcForMaskedLM, path), None
    config = beside(path, MODEL_CONFIG)
    if config is None:
        raise ConfigError(f"{path} is no exported folder (no config.json) and no run ({MODEL_CONFIG} is not beside it)")
    return read_trainer_checkpoint(path, read_model_config(config)), None


def read_pairs(location: str, subset: int | None) -> list[MinimalPair]:
    """The pairs, or the same `subset` of each paradigm at every call."""
    return draw_subset(read_minimal_pairs(location), MinimalPairsConfig(path=location, subset_per_paradigm=subset))


def tell_apart(locations: Sequence[str]) -> list[str]:
    """Short names: the last part of each path, more of it where that is not enough."""
    for parts in range(1, 6):
        names = ["/".join(Path(each).absolute().parts[-parts:]) for each in locations]
        if len(set(names)) == len(names):
            return names
    return [f"{number}: {each}" for number, each in enumerate(locations, start=1)]


def prune_and_score(
    model: nn.Module, tokenizer: Any, pairs: list[MinimalPair], thresholds: Sequence[float], each_layer: bool
) -> list[Row]:
    """One row for the model as it is, one for each threshold, and one for each threshold and layer if asked for."""
    shares = layer_shares(model)
    whole = score_pairs(model, tokenizer, pairs, ScoringConfig())
    rows = [_row(0.0, "none", (0, 0.0), whole, whole)]
    choices: list[tuple[str, list[str] | None]] = [("all", None)]
    choices += [(label, [label]) for label, row in shares.items() if len(row) > 1] if each_layer else []
    for layer, labels in choices:
        before, scored = 0, whole
        for threshold in sorted(set(thresholds)):
            gone = count_pruned(shares, threshold, labels)
            # larger thresholds prune no fewer sources: an equal number means that they are the same ones
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
