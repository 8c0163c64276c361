"""Scores equal those of the published implementation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from elc_composer.evaluation.config import ScoringConfig
from elc_composer.evaluation.encoding import EncodedSentences
from elc_composer.evaluation.scoring import score_encoded
from tests.conftest import require
from tests.model.golden import load_golden_model

pytestmark = pytest.mark.golden

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}


def cases(folder: Path) -> list[tuple[str, np.ndarray, list[np.ndarray]]]:
    """Variant, sentence scores and token scores, for every variant whose model is there."""
    with np.load(require(folder / "pll.npz")) as arrays:
        names = [key.removeprefix("pll/") for key in arrays.files if key.startswith("pll/")]
        present = [name for name in names if (folder / "model" / f"{name}.npz").exists()]
        if not present:
            pytest.skip(f"{folder / 'model'} has none of the models {', '.join(names)}")
        return [(name, arrays[f"pll/{name}"], arrays[f"token_log_prob/{name}"]) for name in present]


def encoded(folder: Path) -> EncodedSentences:
    with np.load(require(folder / "pll.npz")) as arrays:
        tokens = [ids[:n].astype(np.int32) for ids, n in zip(arrays["input_ids"], arrays["n_tokens"])]
    return EncodedSentences(tokens, prefix=1, suffix=1, mask_token_id=4, pad_token_id=3)


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("tokens_per_batch", [1, 50, 100_000])
def test_scores_are_the_published_implementations(
    golden_dir: Path, dtype: torch.dtype, tokens_per_batch: int, record_property
) -> None:
    sentences = encoded(golden_dir)
    for name, pll, token_log_prob in cases(golden_dir):
        model = load_golden_model(golden_dir / "model", name, dtype).eval()
        scores, tokens = score_encoded(model, sentences, ScoringConfig(tokens_per_batch=tokens_per_batch))
        padded = np.zeros_like(token_log_prob)
        for i, values in enumerate(tokens):
            padded[i, 1 : len(values) + 1] = values
        errors = relative_error(scores, pll), relative_error(padded, token_log_prob)
        record_property(f"{name} error", max(errors))
        assert max(errors) <= TOLERANCE[dtype], f"{name}: scores off by {errors[0]:.2e}, tokens by {errors[1]:.2e}"
