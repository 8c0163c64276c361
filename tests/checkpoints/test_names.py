"""Steps in the names of checkpoints."""

from __future__ import annotations

import pytest

from elc_composer.checkpoints.names import step_of


@pytest.mark.parametrize(
    ("path", "step"),
    [
        ("ba100-rank0.pt", 100),
        ("run/checkpoints/ba0-rank0.pt", 0),
        ("ep2-ba100-rank0.pt", 100),
        ("ep2-ba100", 100),
        ("run/ep2-ba100/", 100),
        ("run/ep2-ba100/.metadata", 100),
        ("ba100-rank1.pt", None),
        ("ba100-rank0.pt.damaged", None),
        (".ba100-rank0.pt.fetching", None),
        ("._ba100-rank0.pt", None),
        ("mba100-rank0.pt", None),
        ("._ep2-ba100", None),
        ("ep2-ba100.damaged", None),
        ("ep2-ba100/__0_0.distcp", None),
        ("latest-rank0.pt", None),
        ("ba-rank0.pt", None),
        ("ba100", None),
    ],
)
def test_step_of_a_name(path: str, step: int | None) -> None:
    assert step_of(path) == step
