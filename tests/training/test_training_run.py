from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from elc_composer.model import ElcConfig, ElcForMaskedLM
from tests.conftest import require
from tests.model.golden import relative_error
from tests.recipe import golden_model, run_recipe

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


@pytest.mark.parametrize("heads", [1, 3, 6])
def test_a_run_of_another_shape_is_read_off_its_file(heads: int, tmp_path: Path) -> None:
    shape = {"vocab_size": 31, "hidden_size": 18, "intermediate_size": 20, "num_hidden_layers": 2}
    config = ElcConfig(**shape, num_attention_heads=heads, max_position_embeddings=24, position_bucket_size=4)
    torch.manual_seed(1)
    model = ElcForMaskedLM(config).double().eval()
    ids = torch.randint(7, 31, (3, 24))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.float() + 0.1 * torch.randn(parameter.shape))
        loss = model(ids, torch.ones_like(ids, dtype=torch.bool), ids).loss
    batch = {"input_ids": ids.numpy(), "padding_mask": np.zeros((3, 24), bool), "labels": ids.numpy()}
    arrays = {f"batch/0/{name}": value for name, value in batch.items()}
    initial = {f"base/init/{name}": value.detach().numpy() for name, value in model.named_parameters()}
    np.savez(tmp_path / "run.npz", **arrays, **initial, **{"base/loss": np.array([float(loss)])})
    with np.load(tmp_path / "run.npz") as file:
        read = golden_model(file, "base", torch.float64)
    assert read.config.num_attention_heads == heads
    assert read.config.max_position_embeddings == 24
