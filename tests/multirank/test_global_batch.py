from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import require
from tests.multirank.launch import launch

JOB = Path(__file__).parent / "jobs" / "recipe_job.py"


@pytest.mark.golden
@pytest.mark.multirank
def test_a_global_batch_is_one_batch_however_it_is_cut(golden_dir: Path, tmp_path: Path) -> None:
    """1 rank x 1 microbatch = 1 x 4 = 2 x 2, though the parts hold different numbers of masked tokens."""
    path = require(golden_dir / "training_run.npz")
    results: dict[str, Any] = {}
    for ranks, microbatches in ((1, 1), (1, 4), (2, 2)):
        out = tmp_path / f"{ranks}x{microbatches}.pt"
        launch(JOB, path, out, "--microbatches", microbatches, n=ranks)
        results[out.stem] = torch.load(out, weights_only=True)
    whole = results.pop("1x1")
    for cut, result in results.items():
        losses = torch.tensor([whole["loss"], result["loss"]], dtype=torch.float64)
        assert (losses[0] - losses[1]).abs().max() <= 1e-6, cut
        for name, parameter in whole["state"].items():
            deviation = (result["state"][name] - parameter).abs().max() / parameter.abs().max().clamp(min=1e-12)
            assert deviation <= 1e-6, (cut, name)
