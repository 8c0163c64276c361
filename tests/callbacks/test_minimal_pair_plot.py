"""MinimalPairPlot: history, pictures, resumption."""

from __future__ import annotations

from pathlib import Path

from elc_composer.callbacks.minimal_pair_plot import MinimalPairPlot
from elc_composer.evaluation.config import MinimalPairsConfig
from elc_composer.evaluation.in_training.evaluators import minimal_pair_evaluators
from tests.evaluation.tiny import tiny_tokenizer, write_pairs
from tests.evaluation.training_helpers import logged, trainer


def run(tmp_path: Path, **changes):
    config = MinimalPairsConfig(path=str(write_pairs(tmp_path / "pairs")), eval_interval="2ba", label="tiny")
    plot = MinimalPairPlot(picture_path=str(tmp_path / "{run_name}_{label}.png"))
    return plot, trainer(minimal_pair_evaluators([config], tiny_tokenizer()), callbacks=[plot], **changes)


def test_history_equals_the_logged_accuracies_and_is_drawn(tmp_path: Path) -> None:
    plot, fit = run(tmp_path)
    fit.fit()
    for name, points in plot.history["tiny"].items():
        assert points == logged(fit, f"metrics/tiny/{name}")
    assert [batch for batch, _ in plot.history["tiny"]["overall"]] == [2, 4, 6]
    assert (tmp_path / "run_tiny.png").read_bytes().startswith(b"\x89PNG")


def test_resumed_run_continues_the_history(tmp_path: Path) -> None:
    whole, fit = run(tmp_path, save_folder=str(tmp_path / "saved"), save_interval="1ba")
    fit.fit()
    resumed, fit = run(tmp_path, load_path=str(tmp_path / "saved" / "ep0-ba3-rank0.pt"))
    fit.fit()
    assert resumed.history == whole.history


def test_evaluating_a_step_again_replaces_it(tmp_path: Path) -> None:
    plot, fit = run(tmp_path)
    fit.eval()
    fit.eval()
    assert [batch for batch, _ in plot.history["tiny"]["overall"]] == [0]
