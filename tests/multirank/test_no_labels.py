"""Batches without labels: loss and gradient 0, and the same steps for every number of microbatches and ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from elc_composer.data.loader import count_tokens
from tests.multirank.jobs import no_labels_job
from tests.multirank.launch import launch


@pytest.fixture(scope="module")
def one_rank() -> dict[int, dict[str, Any]]:
    """Results by microbatch size."""
    return {microbatch: no_labels_job.train(microbatch) for microbatch in (4, 1)}


def test_loss_and_gradient_are_zero_exactly_where_there_is_no_label(one_rank: dict[int, dict[str, Any]]) -> None:
    for result in one_rank.values():
        empty = [not rows for rows in no_labels_job.LABELLED_ROWS]
        assert [loss == 0.0 for loss in result["losses"]] == empty
        assert [bool((gradient == 0).all()) for gradient in result["gradients"]] == empty
        assert all(torch.isfinite(value).all() for value in result["weights"].values())


def test_microbatches_of_one_sequence_give_the_same_steps(one_rank: dict[int, dict[str, Any]]) -> None:
    _assert_equal(one_rank[1], one_rank[4])


@pytest.mark.multirank
def test_two_ranks_give_the_same_steps(one_rank: dict[int, dict[str, Any]], tmp_path: Path) -> None:
    launch(Path(no_labels_job.__file__), tmp_path / "results.pt", 2, 1)
    for result in torch.load(tmp_path / "results.pt", weights_only=True).values():
        _assert_equal(result, one_rank[4])


def test_weight_of_a_batch_without_labels_changes_no_sum() -> None:
    none, some = ({"token_counts": [9], "label_counts": [labels]} for labels in (0, 1))
    weights = [count_tokens(batch)["loss_generating"] for batch in (none, some)]
    assert weights[0] > 0
    assert sum([*[weights[0]] * 10_000, weights[1]]) == 1.0


def test_label_counts_are_exact_under_a_low_precision_default_dtype() -> None:
    """Composer makes a tensor of the counts to sum them over the ranks."""
    counted = count_tokens({"token_counts": [9], "label_counts": [629_145]})["loss_generating"]
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert torch.tensor(sum([counted, np.float64(2)])).item() == 629_147
    finally:
        torch.set_default_dtype(torch.float32)


def _assert_equal(result: dict[str, Any], expected: dict[str, Any]) -> None:
    # Composer keeps losses, and the factor of each gradient, in float32: relative errors of 1e-7.
    np.testing.assert_allclose(result["losses"], expected["losses"], rtol=1e-6)
    torch.testing.assert_close(result["gradients"], expected["gradients"], rtol=1e-6, atol=1e-6)
    for name, value in expected["weights"].items():
        torch.testing.assert_close(result["weights"][name], value, rtol=1e-6, atol=1e-6)
