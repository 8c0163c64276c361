"""The benchmark of minimal pairs at a tiny size, without minicons: a failing setting does not stop the others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers

from elc_composer.prepared.tokenizer_files import SPECIAL_TOKENS
from tests.conftest import ROOT
from tests.evaluation.tiny import ROWS, WORDS, write_pairs


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.minimal_pairs", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False)


def test_failing_settings_are_reported_and_the_others_continue(tmp_path: Path) -> None:
    tokenizer, out = tmp_path / "tokenizer.json", tmp_path / "results.json"
    words = models.WordLevel({word: i for i, word in enumerate([*SPECIAL_TOKENS, *WORDS])}, unk_token="[UNK]")
    built = Tokenizer(words)
    built.pre_tokenizer = pre_tokenizers.Whitespace()
    built.save(str(tokenizer))
    arguments = ["--size", "base", "--quick", "--minimal-pairs", write_pairs(tmp_path / "pairs"), "--full"]
    # Triton's kernels need a GPU.
    choices = ["--dtypes", "float32", "float128", "--kernels", "triton", "torch", "--batch-sizes"]
    done = run(*arguments, *choices, "--tokenizer", tokenizer, "--out", out)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(out.read_text())
    assert set(found["error"]) == {"float128", "ours float32 1024 tokens triton"}
    assert list(found["pairs_per_second"]) == ["ours float32 1024 tokens torch"]
    assert found["pairs"] == 4
    assert found["float32"]["best"] == {"ours": "ours float32 1024 tokens torch"}
    assert found["full"]["pairs"] == sum(map(len, ROWS.values()))


def test_a_model_by_size_needs_a_tokenizer(tmp_path: Path) -> None:
    done = run("--size", "small", "--minimal-pairs", tmp_path)
    assert done.returncode == 2
    assert "small: give the tokenizer.json with --tokenizer" in done.stderr
