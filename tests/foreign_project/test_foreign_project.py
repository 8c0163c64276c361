"""The monitors in another Composer project, started from its command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent / "train.py"
ROOT = SCRIPT.parent.parent.parent


def test_foreign_project_uses_the_monitors(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(SCRIPT), str(tmp_path / "run")]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    printed = dict(line.rsplit(" ", 1) for line in done.stdout.splitlines() if "/" in line)
    assert 0 < float(printed["layer_weights/layer_4/from_0"]) < 1
    assert float(printed["weight_distribution/blocks.3/update_ratio"]) > 0
    written = {path.name for path in (tmp_path / "run").iterdir()}
    pictures = {"layer_weights.png", "layer_weights_over_time.png"}
    assert written == pictures | {"layer_weights.jsonl", "weight_histograms.jsonl"}
    assert "# line 3" in SCRIPT.read_text()
    assert SCRIPT.read_text().count("# line ") == 3
