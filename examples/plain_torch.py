"""Trains the quickstart's model in plain PyTorch: this project's model, optimizer, data and evaluation, no Composer.

    elc-quickstart                                    # or `make quickstart`: writes the data
    python examples/plain_torch.py runs/quickstart    # the same losses as its run, in float32

One device, no checkpoints, no resumption: these are what the training run adds.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

from elc_composer.data import MaskingConfig, TokenIds
from elc_composer.data.collate import MaskingCollator
from elc_composer.data.streaming.checked_stream import CheckedStream
from elc_composer.data.streaming.dataset import SegmentDataset
from elc_composer.evaluation.aggregate import summarize
from elc_composer.evaluation.minimal_pairs import read_minimal_pairs
from elc_composer.evaluation.score_pairs import score_pairs
from elc_composer.model import ElcConfig, ElcForMaskedLM
from elc_composer.optim import OptimizerConfig, ScheduleConfig, build_optimizer, build_scheduler
from elc_composer.prepared.fast_tokenizer import load_fast_tokenizer
from elc_composer.prepared.layout import TOKENIZER
from elc_composer.prepared.tokenizer_files import PARAGRAPH, SPECIAL_TOKENS, TAB

SEED, CLIP_NORM = 1, 2.0
STAGES = ((32, 0.75, 32), (64, 0.25, 16))
"""Tokens of a sequence, share of the steps, sequences of a batch."""
MASKING = MaskingConfig(probability=0.2, max_span_length=3)
SHAPE: dict[str, Any] = {
    "layer_mixing": "zero",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "position_bucket_size": 16,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


def token_ids(tokenizer: PreTrainedTokenizerFast) -> TokenIds:
    """Special tokens; maskable tokens begin at [TAB], random replacements at [PAR]."""
    names = ("cls", "sep", "pad", "mask")
    special = {f"{name}_id": getattr(tokenizer, f"{name}_token_id") for name in names}
    return TokenIds(
        len(tokenizer),
        **special,
        first_random=SPECIAL_TOKENS.index(PARAGRAPH),
        first_maskable=SPECIAL_TOKENS.index(TAB),
    )


def build_loader(folder: Path, tokens: TokenIds, stage: int, first: int, steps: int) -> DataLoader[Any]:
    """The loader of a stage that starts at step `first` of `steps`; each iteration over it is an epoch."""
    length, _, size = STAGES[stage]
    dataset = SegmentDataset(
        streams=[CheckedStream(remote=None, local=str(folder / f"seq_{length}"), split="train")],
        batch_size=size,
        vocab_size=tokens.vocab_size,
        seq_length=length,
        shuffle=True,
        shuffle_seed=SEED + stage,
        shuffle_algo="py1e",
        validate_hash="sha256",
    )
    # Masks depend on seed, stage, epoch, sample and step only; two stages of one seed must differ.
    collate = MaskingCollator(
        seq_length=length,
        masking=MASKING,
        tokens=tokens,
        seed=SEED + (stage << 48),
        first_step=first,
        total_steps=steps,
        short_p=0.1,
    )
    return DataLoader(dataset, batch_size=size, collate_fn=collate, drop_last=True)


def endless(loader: DataLoader[Any]) -> Iterator[dict[str, Any]]:
    """Its batches, epoch after epoch."""
    while True:
        yield from loader


def train(folder: Path, tokenizer: PreTrainedTokenizerFast, steps: int, losses: list[float]) -> ElcForMaskedLM:
    """Train on a prepared folder and return the model; appends each step's loss, in nats a masked token."""
    torch.manual_seed(SEED)
    model = ElcForMaskedLM(ElcConfig(vocab_size=len(tokenizer), **SHAPE)).train()
    optimizer = build_optimizer(model, OptimizerConfig(name="lamb", lr=1e-2, weight_decay=0.1))
    scheduler = build_scheduler(ScheduleConfig(warmup_fraction=0.05, floor=0.05), optimizer, steps)
    first, share, epochs = 0, 0.0, 0
    for stage in range(len(STAGES)):
        share += STAGES[stage][1]
        last = round(share * steps)
        loader = build_loader(folder, token_ids(tokenizer), stage, first, steps)
        # Composer counts epochs over all stages; their number chooses the order of the samples.
        for _ in range(epochs):
            next(iter(loader))
        epochs += math.ceil((last - first) / len(loader))
        for _, batch in zip(range(first, last), endless(loader)):
            loss = model(batch["input_ids"], batch["attention_mask"], batch["labels"], return_dict=True).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
            optimizer.step()
            scheduler.step()
            losses.append(loss.item())
        first = last
    return model.eval()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("quickstart", type=Path, help="the quickstart's folder, with data/ and toy/minimal_pairs/")
    parser.add_argument("--steps", type=int, default=2200)
    options = parser.parse_args()
    tokenizer = load_fast_tokenizer(str(options.quickstart / "data" / TOKENIZER))
    losses: list[float] = []
    model = train(options.quickstart / "data", tokenizer, options.steps, losses)
    print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}")
    pairs = read_minimal_pairs(options.quickstart / "toy" / "minimal_pairs")
    accuracy = summarize(score_pairs(model, tokenizer, pairs))["accuracy"]["micro"]
    print(f"accuracy on {len(pairs)} minimal pairs: {accuracy:.3f}")


if __name__ == "__main__":
    main()
