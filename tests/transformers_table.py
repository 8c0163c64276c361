"""Prints what an exported model does in the installed transformers, item by item, as a Markdown table.

    python -m tests.transformers_table

docs/transformers.md has its output. An item's result is that of its tests, in parentheses the number that passed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import transformers

ROOT = Path(__file__).resolve().parent.parent
HERE = "tests/test_in_transformers.py"
CONVERT = "tests/commands/test_convert.py"
HEADS = "tests/commands/test_convert_heads.py"

ITEMS: dict[str, tuple[str, ...]] = {
    "gradients under Trainer's accumulation": (f"{HERE}::test_trainer_accumulates_the_gradients_of_one_batch",),
    "text with [MASK] has the ids of training; bos, eos; no question": (
        f"{HERE}::test_tokenizer_is_loaded_without_a_question",
    ),
    "fill-mask pipeline": (f"{HERE}::test_fill_mask_pipeline",),
    "LTG-BERT split in two ways is refused": (
        f"{CONVERT}::test_split_of_queries_and_keys_is_read_from_the_folders_code",
    ),
    "attention masks of 2, 3 and 4 dimensions": (f"{HERE}::test_masks",),
    "arguments are used or refused": (f"{HERE}::test_nothing_is_silently_ignored",),
    "a folder without a tokenizer is refused": (f"{HERE}::test_a_folder_without_a_tokenizer_is_refused",),
    "heads load through auto_map": (
        f"{HERE}::test_each_class_loads_through_its_auto_class",
        f"{HERE}::test_config_round_trip",
    ),
    "every class loads every other's folder": (f"{HERE}::test_every_pair_of_classes",),
    "text-classification pipeline": (f"{HERE}::test_text_classification_pipeline",),
    "convert keeps head.*": (HEADS,),
    "gradient checkpointing": (
        f"{HERE}::test_gradient_checkpointing",
        f"{HERE}::test_reentrant_checkpointing_is_refused",
        f"{HERE}::test_checkpointing_of_some_layers_is_refused",
    ),
    "inputs_embeds": (f"{HERE}::test_embeddings_in_place_of_ids",),
    "attn_implementation": (f"{HERE}::test_attention_implementation_chooses_kernels",),
    "dtype in config.json": (f"{HERE}::test_dtype_is_written_and_used",),
    "modes of files": (f"{HERE}::test_files_have_the_mode_of_new_files",),
    "peft: a LoRA step, saved and loaded": (f"{HERE}::test_peft_lora_step",),
    "sentence-transformers": (f"{HERE}::test_sentence_transformers",),
    "torch.export, any length": (f"{HERE}::test_torch_export_with_any_length",),
    "ONNX, any length": (f"{HERE}::test_onnx_with_any_length",),
}


class Outcomes:
    """Collects the result of each test."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.found[report.nodeid] = report.outcome


def result(found: dict[str, str], tests: tuple[str, ...]) -> str:
    """Counts of the outcomes of an item's tests."""
    of_item = [
        outcome
        for node, outcome in found.items()
        if any(node == test or node.startswith((f"{test}[", f"{test}::")) for test in tests)
    ]
    counts = {kind: of_item.count(kind) for kind in ("passed", "failed", "skipped")}
    return ", ".join(f"{count} {kind}" for kind, count in counts.items() if count) or "no test"


def main() -> int:
    """Run the tests and print the table; returns 0 if none failed."""
    outcomes = Outcomes()
    files = [name for name in (HERE, CONVERT, HEADS) if (ROOT / name).is_file()]
    options = ["-q", "-p", "no:randomly", "-p", "no:cacheprovider", "--rootdir", str(ROOT)]
    pytest.main([*options, *(str(ROOT / name) for name in files)], plugins=[outcomes])
    print(f"\n| item | transformers {transformers.__version__}, torch {torch.__version__} |\n|---|---|")
    for item, tests in ITEMS.items():
        print(f"| {item} | {result(outcomes.found, tests)} |")
    return int("failed" in outcomes.found.values())


if __name__ == "__main__":
    sys.exit(main())
