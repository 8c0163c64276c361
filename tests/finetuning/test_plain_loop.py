"""Fine-tuning with Composer equals a plain PyTorch loop with the same settings, head and batches."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from elc_composer.finetuning.batches import SEED_STRIDE
from elc_composer.finetuning.job import run_job
from elc_composer.finetuning.model_source import ModelSource
from elc_composer.finetuning.plan import plan
from elc_composer.model import ElcModel
from tests.finetuning.small import elc_folder

STEPS, BATCH = 20, 32


def plain_losses(folder: Path, file: Path, total: int, seed: int, side: str) -> list[float]:
    """The pipelines' loop, written out: AdamW, cosine to 0.1 with warm-up, no clipping."""
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, padding_side=side)
    torch.manual_seed(seed)
    encoder = ElcModel.from_pretrained(folder, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    width = encoder.config.hidden_size
    torch.manual_seed(seed)
    head = torch.nn.Sequential(
        torch.nn.LayerNorm(width, 1e-5, elementwise_affine=False),
        torch.nn.Linear(width, width),
        torch.nn.GELU(),
        torch.nn.LayerNorm(width, 1e-5, elementwise_affine=False),
        torch.nn.Linear(width, 2),
    )
    parameters = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=3e-5, betas=(0.9, 0.999), weight_decay=0.01)
    order = torch.randperm(len(lines), generator=torch.Generator().manual_seed(seed * SEED_STRIDE)).tolist()
    encoder.train()
    losses = []
    for step in range(STEPS):
        chosen = [lines[i] for i in order[step * BATCH : (step + 1) * BATCH]]
        texts = [(line["sentence1"], line["sentence2"]) for line in chosen]
        inputs = tokenizer(texts, padding=True, truncation=True, max_length=512, return_tensors="pt")
        states = encoder(inputs["input_ids"], inputs["attention_mask"]).last_hidden_state
        logits = head(states[:, 0 if side == "right" else -1])
        loss = F.cross_entropy(logits, torch.tensor([line["label"] for line in chosen]))
        warmup = int(0.06 * total)
        progress = (step - warmup) / (total - warmup)
        rate = step / warmup if step < warmup else 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress))
        optimizer.param_groups[0]["lr"] = 3e-5 * rate
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(
    ("preset", "side", "positions"),
    [
        ("babylm2025", "right", 512),
        pytest.param("babylm2025", "right", 64, marks=pytest.mark.slow),
        pytest.param("babylm2026", "left", 512, marks=pytest.mark.slow),
    ],
)
def test_the_first_steps_of_rte_equal_a_plain_loop(
    tmp_path: Path, data_dir: Path, preset: str, side: str, positions: int
) -> None:
    examples = STEPS * BATCH + 5
    lines = (data_dir / "glue" / "rte.train.jsonl").read_text().splitlines(keepends=True)
    model = elc_folder(tmp_path / "model", lines, max_position_embeddings=positions)
    (tmp_path / "rte.train.jsonl").write_text("".join(lines[:examples]))
    (tmp_path / "rte.valid.jsonl").write_text("".join(lines[examples : examples + 8]))
    job = plan(ModelSource(model), tmp_path, ["rte"], preset=preset, seeds=1, out=tmp_path, epochs=1, dropout=0.0)[0]
    run_job(job)
    records = [json.loads(line) for line in (job.folder / "metrics.jsonl").read_text().splitlines()]
    ours = [record["loss/train/total"] for record in records if "loss/train/total" in record]
    plain = plain_losses(model, tmp_path / "rte.train.jsonl", STEPS, job.seed, side)
    assert len(ours) == STEPS
    assert max(abs(one - other) for one, other in zip(ours, plain)) < 1e-4
    assert len({round(loss, 4) for loss in plain}) > 10
