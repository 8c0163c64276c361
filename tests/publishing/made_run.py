"""A run folder as training writes it, with several checkpoints of a small model, made in a second without training."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
import yaml

from elc_composer.model import ElcConfig, ElcForMaskedLM
from elc_composer.prepared.tokenizer_files import save_tokenizer
from streaming_prep.train_tokenizer import train_tokenizer

SENTENCES = ["the old dog sees the small cat", "a cat sees the dogs that run", "the cats run"] * 5
SHAPE = {
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
    "position_bucket_size": 4,
}
STEPS = (4, 8, 12, 16, 20)


def make_model(vocab_size: int, seed: int, variant: str = "zero") -> ElcForMaskedLM:
    """A model whose every parameter is far from its initial value."""
    torch.manual_seed(seed)
    model = ElcForMaskedLM(ElcConfig(vocab_size=vocab_size, layer_mixing=variant, **SHAPE))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model.eval()


def add_checkpoint(run: Path, step: int, variant: str = "zero") -> ElcForMaskedLM:
    """Write the checkpoint of a step, each with other weights; returns its model."""
    vocab_size = json.loads((run / "model_config.json").read_text())["vocab_size"]
    model = make_model(vocab_size, seed=step, variant=variant)
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    torch.save({"state": {"model": state}}, run / "checkpoints" / f"ba{step}-rank0.pt")
    return model


def make_run(folder: Path, steps: tuple[int, ...] = STEPS, started: str = "2026-01-01T00:00:00+00:00") -> Path:
    """A run folder `folder/run` on prepared data in `folder/data` (a manifest only)."""
    run = folder / "run"
    (run / "checkpoints").mkdir(parents=True)
    save_tokenizer(train_tokenizer(SENTENCES, 100, min_frequency=1), run / "tokenizer")
    vocab_size = len(json.loads((run / "tokenizer" / "tokenizer.json").read_text())["model"]["vocab"])
    (run / "model_config.json").write_text(make_model(vocab_size, 0).config.to_json_string())
    data = folder / "data"
    data.mkdir()
    sources = [
        {"corpus": "dialogues", "file": "dialogues.train", "split": "train", "words": 5000, "sentences": 700},
        {"corpus": "dialogues", "file": "dialogues.dev", "split": "dev", "words": 50, "sentences": 7},
        {"corpus": "tales", "file": "tales.train", "split": "train", "words": 2500, "sentences": 200},
    ]
    (data / "manifest.json").write_text(json.dumps({"sources": sources, "outputs": {}}))
    config = {
        "run_name": "tiny run",
        "max_steps": 20,
        "seed": 3,
        "data": {"streams": [{"local": str(data)}], "train_split": "train"},
        "optimizer": {"name": "lamb", "lr": 0.007},
        "schedule": {"name": "cosine", "warmup_fraction": 0.1, "warmup_steps": None},
        "stages": [{"seq_length": 32, "fraction": 1.0, "global_train_batch_size": 8}],
        "precision": "fp32",
        "checkpoints": {"save_folder": str(run / "checkpoints")},
    }
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    digest = hashlib.sha256((data / "manifest.json").read_bytes()).hexdigest()
    recorded = {"versions": {"torch": "2.7.0"}, "data": [{"stream": str(data), "manifest_sha256": digest}]}
    (run / "metadata.json").write_text(json.dumps(recorded))
    event = {"time": started, "event": "started", "step": 0, "ranks": 1, "text": "on 1 rank"}
    (run / "events.jsonl").write_text(json.dumps(event) + "\n")
    lines: list[dict[str, float]] = []
    for step in range(20):
        lines.append({"step": step, "time/token": 200 * step, "data/words": 150.0 * (step + 1)})
    lines.append({"step": 20, "time/token": 4000})
    for step in (0, 10, 20):
        lines[step] |= {"metrics/dev/LanguageCrossEntropy": 9 - step / 10, "metrics/toy/overall": 0.5 + step / 100}
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for step in steps:
        add_checkpoint(run, step)
    return run
