"""The chaos benchmark in small: three kills, storage that misbehaves, and the same end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.mark.slow
@pytest.mark.multirank
def test_a_run_that_is_killed_three_times_ends_where_it_should(tmp_path: Path) -> None:
    out = tmp_path / "chaos.json"
    command = [sys.executable, "-m", "benchmarks.chaos", "--kills", "3", "--steps", "16", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=590, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    result = json.loads(out.read_text())
    assert len(result["table"]) == 3
    assert result["storage_requests"] > 0
    assert result["largest_weight_difference"] <= 1e-6
    assert result["batches_with_other_samples"] == 0
