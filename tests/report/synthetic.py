"""Synthetic run folders with the files that a run writes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import yaml

PARADIGMS = {"regular_agreement": "agreement", "irregular_agreement": "agreement", "npi_scope": "npi_licensing"}
LAYERS = 3


def shares(layer: int, step: int, mixing: float = 1.0) -> list[float]:
    """A layer's shares, which move towards the embedding with the steps (away from it for a negative `mixing`)."""
    weights = [math.exp(-source * step * mixing / 50) for source in range(layer)]
    return [weight / sum(weights) for weight in weights]


def write_run(
    folder: Path, steps: int = 100, name: str = "made up", monitors: bool = True, mixing: float = 1.0, **config: Any
) -> Path:
    """Write a folder with metrics of `steps` steps and the monitors' files; `config` overrides keys of the config."""
    folder.mkdir(parents=True)
    (folder / "checkpoints").mkdir()
    for step in (50, 100):
        (folder / "checkpoints" / f"ba{step}-rank0.pt").touch()
    _write_data(folder / "data")
    pairs = folder / "pairs"
    pairs.mkdir()
    for paradigm, phenomenon in PARADIGMS.items():
        row = {"sentence_good": "a", "sentence_bad": "b", "UID": paradigm, "linguistics_term": phenomenon}
        (pairs / f"{paradigm}.jsonl").write_text(json.dumps(row) + "\n")
    settings = {
        "run_name": name,
        "max_steps": 100,
        "model": {"layer_mixing": "zero", "num_hidden_layers": LAYERS, "hidden_size": 8, "vocab_size": 100},
        "data": {"streams": [{"remote": None, "local": str(folder / "data")}]},
        "stages": [
            {"seq_length": 16, "fraction": 0.9, "global_train_batch_size": 8},
            {"seq_length": 32, "fraction": 0.1, "global_train_batch_size": 4},
        ],
        "evaluators": {"minimal_pairs": [{"label": "toy", "path": str(pairs)}]},
        "checkpoints": {"save_folder": str(folder / "checkpoints")},
        **config,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    write_lines(folder / "metrics.jsonl", [metrics_at(step) for step in range(steps)])
    write_lines(folder / "layer_weights.jsonl", [layers_at(step, mixing) for step in range(0, steps, 10)])
    if monitors:
        write_lines(folder / "mixed_inputs.jsonl", [mixed_at(step) for step in range(0, steps, 20)])
        write_lines(folder / "weight_histograms.jsonl", [bars_at(step) for step in range(0, steps, 20)])
    return folder


def metrics_at(step: int) -> dict[str, Any]:
    row: dict[str, Any] = {"step": step, "loss/train/total": 5.0 / (1 + step / 20), "lr-Lamb/group0": 0.01}
    row |= {"lr-Lamb/group1": 0.01, "trainer/device_train_microbatch_size": 8, "time/token": 100 * step}
    if step >= 5:
        row |= {"throughput/batches_per_sec": 3.0, "throughput/tokens_per_sec": 300.0 + step % 3}
    if step % 20 == 0:
        row |= {"metrics/dev/LanguageCrossEntropy": 5.1 / (1 + step / 20), "metrics/dev/MaskedAccuracy": step / 200}
        named = {"overall": 0.5, "phenomena": 0.5, "micro": 0.5, **dict.fromkeys(PARADIGMS.values(), 0.5)}
        named |= dict.fromkeys(PARADIGMS, 0.5)
        row |= {f"metrics/toy/{name}": value + step / 250 for name, value in named.items()}
        for unit in ("embedding", "transformer.layers.0", "group_0", "group_1"):
            spread = {"norm": 2.0 + step / 100, "std": 0.1, "update_ratio": 1e-3, "grad_norm": 3.0, "nonfinite": 0.0}
            spread |= {"q1": -0.3, "q50": 0.0, "q99": 0.3}
            row |= {f"weight_distribution/{unit}/{key}": value for key, value in spread.items()}
        row |= {f"mixed_input/layer_{layer}/norm": 4.0 + layer for layer in range(1, LAYERS + 1)}
    return row


def layers_at(step: int, mixing: float = 1.0) -> dict[str, Any]:
    return {"step": step, "layers": {str(layer): shares(layer, step, mixing) for layer in range(1, LAYERS + 1)}}


def mixed_at(step: int) -> dict[str, Any]:
    layers = {str(n): {"norm": 2.0, "contributions": [2.0 * s for s in shares(n, step)]} for n in range(1, LAYERS + 1)}
    return {"step": step, "layers": layers}


def bars_at(step: int) -> dict[str, Any]:
    bars = {"low": -1.0, "high": 1.0, "counts": [1, 5, 10 + step, 5, 1]}
    return {"step": step, "units": {"embedding": bars, "transformer.layers.0": bars}}


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _write_data(folder: Path) -> None:
    folder.mkdir()
    outputs = {"seq_16/train": {"samples": 1234, "tokens": 9876, "utilisation": 0.93, "shards": [{"file": "x"}]}}
    sources = [{"corpus": "aochildes", "split": "train", "words": 4321, "bytes": 99}]
    manifest = {"sources": sources, "outputs": outputs, "tokenizer": {"vocab_size": 100}, "settings": {"packing": "x"}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
