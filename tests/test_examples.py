"""examples/: what they compute is what the training run computes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from elc_composer.callbacks.metrics_file import read_metrics
from tests.conftest import ROOT
from tests.runs import composer, prepare_toy

STEPS = 12
SCRIPT = f"""
import json, sys
from pathlib import Path
sys.path.insert(0, "examples")
import plain_torch
folder, losses = Path(sys.argv[1]), []
tokenizer = plain_torch.load_fast_tokenizer(str(folder / plain_torch.TOKENIZER))
plain_torch.train(folder, tokenizer, {STEPS}, losses)
assert "composer" not in sys.modules
print(json.dumps(losses))
"""


@pytest.mark.slow
def test_plain_torch_has_the_losses_of_a_run_through_composer(tmp_path: Path) -> None:
    prepared = prepare_toy(tmp_path)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SCRIPT, str(prepared / "data")]
    done = subprocess.run(command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    losses = json.loads(done.stdout.splitlines()[-1])

    settings = {
        "run_folder": tmp_path / "run",
        "data.streams.0.local": prepared / "data",
        "data.num_workers": 0,
        "model.vocab_size": json.loads((prepared / "data" / "manifest.json").read_text())["tokenizer"]["vocab_size"],
        "max_steps": STEPS,
        "evaluators.minimal_pairs": [],
        "evaluators.dev_loss": False,
        "evaluators.before_training": False,
    }
    overrides = [f"{key}={value}" for key, value in settings.items()]
    run = composer(ROOT / "yamls" / "quickstart.yaml", *overrides)
    assert run.returncode == 0, run.stderr[-4000:]
    expected = [value for _, value in read_metrics(tmp_path / "run" / "metrics.jsonl")["loss/train/total"]]
    assert len(losses) == len(expected) == STEPS
    assert losses == pytest.approx(expected, rel=1e-6)


def test_model_optimizer_data_and_evaluation_do_not_import_composer() -> None:
    script = "import sys; sys.path.insert(0, 'examples'); import plain_torch; assert 'composer' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
