"""Small prepared data and runs on it, through the same commands that a user types."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from streaming_prep.toy.write import write_toy_language
from tests.conftest import ROOT
from tests.multirank.launch import launch

TINY = {
    "run_name": "tiny",
    "model.hidden_size": 32,
    "model.intermediate_size": 64,
    "model.num_hidden_layers": 3,
    "data.num_workers": 0,
    "checkpoints.save_interval": "4ba",
    "evaluators.eval_interval": "6ba",
    "evaluators.dev_batches": 2,
    "evaluators.device_eval_batch_size": 8,
    "evaluators.before_training": False,
    "evaluators.minimal_pairs.0.subset_per_paradigm": 4,
    "stages.0.global_train_batch_size": 48,
    "stages.1.global_train_batch_size": 24,
    "stages.0.fraction": 0.5,
    "stages.1.fraction": 0.5,
    "max_steps": 12,
    "loggers.progress_bar": False,
}


def prepare_toy(folder: Path, words: int = 5_000) -> Path:
    """A toy language of `words` words, prepared for 32 and 64 tokens: `folder/data`, `folder/toy/minimal_pairs`."""
    toy = write_toy_language(folder / "toy", words=words, pairs_per_paradigm=20)
    build = ["-m", "streaming_prep", "build", "--corpus", toy.corpus, "--out", folder / "data"]
    command = [sys.executable, *map(str, build), "--vocab-size", "1024", "--seq-length", "32", "64"]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


def tiny_overrides(prepared: Path, run_folder: Path, vocab_size: int, **more: object) -> list[str]:
    """Overrides that turn yamls/quickstart.yaml into a run of seconds; `more` writes dots as double underscores."""
    settings: dict[str, object] = {
        **TINY,
        "model.vocab_size": vocab_size,
        "run_folder": run_folder,
        "data.streams.0.local": prepared / "data",
        "evaluators.minimal_pairs.0.path": prepared / "toy" / "minimal_pairs",
        **{key.replace("__", "."): value for key, value in more.items()},
    }
    return [f"{key}={value}" for key, value in settings.items()]


def composer(*arguments: object, ranks: int = 1) -> subprocess.CompletedProcess[str]:
    """`composer -n <ranks> train.py ARGUMENTS`, finished, with its output."""
    return launch(ROOT / "train.py", *arguments, n=ranks, check=False)
