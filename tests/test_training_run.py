from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import require
from tests.model.golden import relative_error
from tests.recipe import run_recipe

VARIANTS = ("base", "zero", "normalized", "weighted_output", "ltg")


@pytest.mark.golden
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-3)], ids=["float64", "float32"]
)
def test_recipe_through_the_trainer(
    golden_dir: Path, variant: str, dtype: torch.dtype, tolerance: float, deviations
) -> None:
    path = require(golden_dir / "training_run.npz")
    with np.load(path) as arrays:
        if f"{variant}/loss" not in arrays.files:
            pytest.skip(f"{path} has no run of {variant}")
        expected = {
            key.removeprefix(f"{variant}/"): arrays[key] for key in arrays.files if key.startswith(f"{variant}/")
        }
    trainer, recorder, norm = run_recipe(path, variant, dtype)
    measured = {"loss": recorder.losses, "grad_norm": norm.norms, "lr": recorder.rates}
    kind = str(dtype).removeprefix("torch.")
    for name, values in measured.items():
        error = relative_error(torch.tensor(values, dtype=torch.float64), expected[name])
        deviations(f"training run, {name} over the steps, {variant}, {kind}", error)
        assert len(values) == len(expected[name])
        assert error <= tolerance, name
    parameters = dict(trainer.state.model.model.named_parameters())
    for name, parameter in parameters.items():
        final = expected[f"final/{name}"]
        error = relative_error(parameter, final)
        deviations(f"training run, final parameters, {variant}, {kind}", error)
        assert error <= tolerance, name
