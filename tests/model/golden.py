"""Models with the published implementation's parameters, and how far arrays are from its numbers."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from elc_composer.model import ElcConfig, ElcForMaskedLM
from tests.conftest import ROOT


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


def golden_names() -> list[str]:
    """Stems of the model files to compare with: the four variants (tests skip the absent) and any others there."""
    folder = Path(os.environ.get("ELC_GOLDEN_DIR", ROOT.parent / "shared" / "golden")) / "model"
    return sorted({"base", "zero", "normalized", "weighted_output", *(path.stem for path in folder.glob("*.npz"))})


@dataclass
class Batch:
    """A view of a golden batch: some of its rows, with padding added or removed on the right."""

    input_ids: Tensor
    """`[R, S]` int64."""
    attention_mask: Tensor
    """`[R, S]` bool, True at real tokens."""
    labels: Tensor
    """`[R, S]` int64, -100 where nothing is predicted."""
    rows: slice
    """Which of the golden batch's rows these are."""


def cut(arrays: Mapping[str, np.ndarray], rows: slice, length: int) -> Batch:
    """Rows of a golden batch at another length: cut where only padding is lost, or padded on the right."""
    mask = ~torch.from_numpy(arrays["padding_mask"])[rows]
    fields = []
    for values, filler in ((arrays["input_ids"], 3), (mask, False), (arrays["labels"], -100)):
        values = values if isinstance(values, Tensor) else torch.from_numpy(values)[rows]
        assert not mask[:, length:].any(), "only padding may be cut off"
        fields.append(F.pad(values[:, :length], (0, max(0, length - values.shape[1])), value=filler))
    return Batch(*fields, rows)


def as_given(arrays: Mapping[str, np.ndarray], longest: int) -> list[Batch]:
    """The golden batch itself."""
    return [cut(arrays, slice(None), arrays["input_ids"].shape[1])]


def padded(arrays: Mapping[str, np.ndarray], longest: int) -> list[Batch]:
    """The golden batch with padding added up to the model's longest sequence."""
    return [cut(arrays, slice(None), longest)]


def one_by_one(arrays: Mapping[str, np.ndarray], longest: int) -> list[Batch]:
    """Each sequence alone, without its padding."""
    lengths = (~arrays["padding_mask"]).sum(1).tolist()
    return [cut(arrays, slice(row, row + 1), length) for row, length in enumerate(lengths)]
