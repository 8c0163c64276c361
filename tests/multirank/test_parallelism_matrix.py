"""Two ranks train as one: every kind of parallelism, every variant, with recomputation and accumulation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from elc_composer.model import MIXING_RULES
from elc_composer.training.parallelism import Strategy
from tests.multirank.launch import launch

JOB = Path(__file__).parent / "jobs" / "matrix_job.py"
OPTIONS = ["plain", "recomputed", "accumulated", "both"]
THOROUGH = ["weighted_output"]
pytestmark = pytest.mark.multirank

Losses = dict[str, list[float]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Losses:
    folder = tmp_path_factory.mktemp("matrix")
    for ranks in (1, 2):
        launch(JOB, folder, n=ranks, timeout=550)
    return {key: value for ranks in (1, 2) for key, value in json.loads((folder / f"{ranks}.json").read_text()).items()}


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("strategy", [strategy.name for strategy in Strategy])
@pytest.mark.parametrize("variant", MIXING_RULES)
def test_losses_of_two_ranks_are_those_of_one(
    variant: str, strategy: str, runs: Losses, matrix: Callable[[str, str, float], float]
) -> None:
    alone = runs[f"whole plain {variant}"]
    assert len(set(alone)) == len(alone), "a run whose loss stands still proves nothing"
    for option in OPTIONS if variant in THOROUGH else OPTIONS[:1]:
        together = runs[f"{strategy} {option} {variant}"]
        column = strategy if option == "plain" else f"{strategy}, {option}"
        deviation = max(abs(one - two) for one, two in zip(alone, together, strict=True))
        assert matrix(variant, column, deviation) <= 1e-5, option
