"""A global batch is one batch: the published run's losses and parameters, however batches and parameters are cut."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import require
from tests.model.golden import relative_error
from tests.multirank.launch import launch

JOB = Path(__file__).parent / "jobs" / "recipe_job.py"
CUTS = ["whole", "accumulated", "ddp", "fsdp1", "fsdp2"]
pytestmark = [pytest.mark.golden, pytest.mark.multirank]


@pytest.fixture(scope="module")
def published(golden_dir: Path) -> dict[str, Any]:
    with np.load(require(golden_dir / "training_run.npz")) as arrays:
        return {name: arrays[name] for name in arrays.files if not name.startswith("batch/")}


@pytest.fixture(scope="module")
def runs(golden_dir: Path, published: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("recipe")
    variants = sorted({name.split("/")[0] for name in published})
    for ranks in (1, 2):
        launch(JOB, golden_dir / "training_run.npz", folder, *variants, n=ranks, timeout=900)
    return {path.stem: torch.load(path, weights_only=True) for path in folder.glob("*.pt")}


@pytest.mark.timeout(1900)
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("variant", ["base", "zero", "normalized", "weighted_output"])
def test_the_cut_changes_nothing(
    variant: str, cut: str, published: dict[str, Any], runs: dict[str, Any], deviations: Callable[[str, float], float]
) -> None:
    if f"{variant}/loss" not in published:
        pytest.skip(f"training_run.npz has no run of {variant}")
    run = runs[f"{variant}_{cut}"]
    tolerance = 1e-4 if cut == "fsdp1" else 1e-6  # FSDP1 runs in float32
    assert run["wrapping"] == (cut if cut in ("ddp", "fsdp1", "fsdp2") else "none")
    losses = torch.tensor(run["loss"], dtype=torch.float64)
    assert deviations(f"{cut}, loss over the steps", relative_error(losses, published[f"{variant}/loss"])) <= tolerance
    for name, parameter in run["params"].items():
        name = name.removeprefix("model.")
        final = published[f"{variant}/final/{name}"]
        assert deviations(f"{cut}, final parameters", relative_error(parameter, final)) <= tolerance, name
