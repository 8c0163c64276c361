"""Models with the published implementation's parameters, and how far arrays are from its numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from elc_composer.model import ElcConfig, ElcForMaskedLM


def load_golden_model(
    folder: Path, name: str, dtype: torch.dtype = torch.float64, **overrides: object
) -> ElcForMaskedLM:
    """The model of `<folder>/<name>.json` with the parameters of `<folder>/<name>.npz`."""
    settings = json.loads((folder / f"{name}.json").read_text())
    settings["layer_mixing"] = settings.pop("variant")
    settings.pop("seed", None)
    model = ElcForMaskedLM(ElcConfig(**{**settings, **overrides}))
    with np.load(folder / f"{name}.npz") as arrays:
        state = {
            key.removeprefix("param/"): torch.from_numpy(arrays[key])
            for key in arrays.files
            if key.startswith("param/") and not key.endswith("position_indices")
        }
    model.load_state_dict(state)
    return model.to(dtype)


def relative_error(actual: Tensor, expected: np.ndarray) -> float:
    """Largest absolute difference over the expected array's largest magnitude."""
    reference = torch.from_numpy(np.asarray(expected, dtype=np.float64))
    scale = reference.abs().max().clamp(min=1e-300)
    return float((actual.detach().double() - reference).abs().max() / scale)
