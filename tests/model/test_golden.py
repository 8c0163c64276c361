"""The model against numbers of the published implementation: states, logits, loss and gradients of every variant."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from elc_composer.model import ElcForMaskedLM
from tests.conftest import require
from tests.model.golden import Batch, as_given, golden_names, load_golden_model, one_by_one, padded, relative_error
from tests.model.triton_interpreter import INTERPRETED

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
FAST_PATHS = {
    "eager": {"kernels": "eager"},
    "torch": {"kernels": "torch"},
}
if INTERPRETED:
    FAST_PATHS["triton"] = {"kernels": "triton"}

pytestmark = pytest.mark.golden
Note = Callable[[str, float], float]


@pytest.fixture(params=golden_names())
def name(request: pytest.FixtureRequest, golden_dir: Path) -> str:
    require(golden_dir / "model" / f"{request.param}.npz")
    require(golden_dir / "model" / f"{request.param}.json")
    return request.param


@pytest.fixture
def arrays(name: str, golden_dir: Path) -> dict[str, np.ndarray]:
    with np.load(golden_dir / "model" / f"{name}.npz") as file:
        return {key: file[key] for key in file.files}


@pytest.fixture(params=TOLERANCE, ids=str)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.fixture(params=FAST_PATHS)
def model(request: pytest.FixtureRequest, name: str, golden_dir: Path, dtype: torch.dtype) -> ElcForMaskedLM:
    return load_golden_model(golden_dir / "model", name, dtype, **FAST_PATHS[request.param])


def accumulate(model: ElcForMaskedLM, batches: list[Batch]) -> Tensor:
    """Mean loss over all batches' labelled positions together, after its backward pass."""
    labelled = sum(int((batch.labels != -100).sum()) for batch in batches)
    total = torch.zeros((), dtype=model.dtype)
    for batch in batches:
        loss = model(batch.input_ids, batch.attention_mask, batch.labels).loss
        share = loss * (batch.labels != -100).sum() / labelled
        share.backward()
        total += share.detach()
    return total


@pytest.mark.parametrize("layout", [as_given, padded, one_by_one])
def test_states_and_logits(
    model: ElcForMaskedLM,
    arrays: dict[str, np.ndarray],
    dtype: torch.dtype,
    layout: Callable[..., list[Batch]],
    deviations: Note,
) -> None:
    for batch in layout(arrays, model.config.max_position_embeddings):
        with torch.no_grad():
            output = model(batch.input_ids, batch.attention_mask, output_hidden_states=True)
        expected_real = ~arrays["padding_mask"][batch.rows]
        real = batch.attention_mask
        assert len(output.hidden_states) == len(arrays["hidden_states"])
        for actual, expected in zip(output.hidden_states, arrays["hidden_states"], strict=True):
            error = relative_error(actual[real], expected[batch.rows][expected_real])
            assert deviations(f"hidden state, {dtype}", error) <= TOLERANCE[dtype]
        error = relative_error(output.logits[real], arrays["logits"][batch.rows][expected_real])
        assert deviations(f"logits, {dtype}", error) <= TOLERANCE[dtype]


@pytest.mark.parametrize("layout", [as_given, padded, one_by_one])
def test_loss_and_gradients(
    model: ElcForMaskedLM,
    arrays: dict[str, np.ndarray],
    dtype: torch.dtype,
    layout: Callable[..., list[Batch]],
    deviations: Note,
) -> None:
    loss = accumulate(model, layout(arrays, model.config.max_position_embeddings))
    assert deviations(f"loss, {dtype}", relative_error(loss, arrays["loss"])) <= TOLERANCE[dtype]
    compare_gradients(model, arrays, dtype, deviations)


def test_head_at_masked_positions_only(
    model: ElcForMaskedLM, arrays: dict[str, np.ndarray], dtype: torch.dtype, deviations: Note
) -> None:
    (batch,) = as_given(arrays, model.config.max_position_embeddings)
    time, row = (batch.labels.T != -100).nonzero().unbind(1)
    positions = row * batch.labels.shape[1] + time
    output = model(batch.input_ids, batch.attention_mask, batch.labels, masked_positions=positions)
    error = relative_error(output.logits, arrays["masked_logits_time_major"])
    assert deviations(f"masked logits, {dtype}", error) <= TOLERANCE[dtype]
    assert deviations(f"loss, {dtype}", relative_error(output.loss, arrays["loss"])) <= TOLERANCE[dtype]
    output.loss.backward()
    compare_gradients(model, arrays, dtype, deviations)


def compare_gradients(
    model: ElcForMaskedLM, arrays: dict[str, np.ndarray], dtype: torch.dtype, deviations: Note
) -> None:
    """Every gradient in the file against the parameter of that name; none of either side is left over."""
    expected = {key.removeprefix("grad/"): value for key, value in arrays.items() if key.startswith("grad/")}
    actual = dict(model.named_parameters(remove_duplicate=False))
    tied = {"classifier.nonlinearity.5.weight", "embedding.word_embedding.weight"}
    assert set(actual) - set(expected) <= tied
    for name, gradient in expected.items():
        assert actual[name].grad is not None, name
        error = relative_error(actual[name].grad, gradient)
        assert deviations(f"gradient, {dtype}", error) <= TOLERANCE[dtype], name
