"""Small models, tokenizers and made files of every task's layout."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import BertConfig, BertModel

from elc_composer.finetuning.tasks import TASKS
from elc_composer.model import ElcConfig, ElcForMaskedLM
from elc_composer.prepared.tokenizer_files import SPECIAL_TOKENS, save_tokenizer
from tests.evaluation.tiny import tiny_tokenizer

WORDS = "the a cat dog cats dogs sleep sleeps see sees near old no boy girl".split()  # noqa: SIM905


def elc_folder(folder: Path, texts: Sequence[str] = WORDS, vocab_size: int | None = None, **changes: Any) -> Path:
    """A random ELC-BERT with a byte-level BPE tokenizer of at most 2,000 entries, in transformers' layout."""
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    save_tokenizer(tokenizer, folder)
    config = ElcConfig(
        layer_mixing="zero",
        vocab_size=vocab_size or tokenizer.get_vocab_size(),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        position_bucket_size=8,
        **{"max_position_embeddings": 512, **changes},
    )
    ElcForMaskedLM(config).save_pretrained(folder)
    return folder


def bert_folder(folder: Path) -> Path:
    """A random BERT without the project's code."""
    tokenizer = tiny_tokenizer(adds_special_tokens=True)
    tokenizer.save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=128,
        pad_token_id=tokenizer.pad_token_id,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def rows(name: str, count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Made examples with the fields of a task; the label is the first word's place in `WORDS`, modulo the classes."""
    task, draw = TASKS[name], random.Random(f"{name} {seed}")
    found = []
    for number in range(count):
        label = draw.randrange(task.classes)
        first = draw.choice(WORDS[label :: task.classes])
        row: dict[str, Any] = {
            field: " ".join([first, *draw.choices(WORDS, k=draw.randint(1, 6))]) for field in task.fields
        }
        found.append({**row, "idx": number, "label": label})
    return found


def write_lines(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def write_task(folder: Path, name: str, train: int = 32, valid: int = 12, layout: str = "2025") -> Path:
    """The files of a task in the layout of 2025 or 2023."""
    ending = "jsonl" if layout == "2025" else "json"
    evaluation = "valid" if layout == "2025" else "validation_matched" if name == "mnli" else "validation"
    lines, scored = rows(name, train), rows(name, valid, 1)
    if TASKS[name].condition:
        scored = [{**line, "condition": "test" if i % 2 else "control"} for i, line in enumerate(scored)]
    write_lines(folder / f"{name}.train.{ending}", lines)
    write_lines(folder / f"{name}.{evaluation}.{ending}", scored)
    return folder
