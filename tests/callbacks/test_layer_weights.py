"""LayerWeightMonitor: it logs the softmax of the parameters, draws it, and its history survives resuming."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
import torch
from composer import Callback
from omegaconf import OmegaConf

from elc_composer.callbacks import LayerWeightMonitor, MixedInputMonitor
from elc_composer.callbacks.layer_weights import HISTORY_LIMIT, describe, softmax
from elc_composer.common.errors import ConfigError
from tests.callbacks.toys import LAYERS, ToyElc, logged, trainer


class Spy(Callback):
    """Copies the mixing weights after every batch."""

    def __init__(self, model: ToyElc) -> None:
        self.model = model
        self.seen = {0: self.copy()}

    def copy(self) -> dict[str, torch.Tensor]:
        named = self.model.model.named_parameters()
        return {name: value.detach().clone() for name, value in named if name.endswith("prev_layer_weights")}

    def batch_end(self, state, logger) -> None:
        self.seen[int(state.timestamp.batch)] = self.copy()


def test_metrics_are_the_softmax_of_the_parameters(tmp_path: Path) -> None:
    model = ToyElc()
    spy, monitor = Spy(model), LayerWeightMonitor(interval="2ba", folder=str(tmp_path))
    run = trainer(model, [spy, monitor], steps=5)
    run.fit()
    found = logged(run, "layer_weights/")
    labels = {f"transformer.layers.{i}.prev_layer_weights": f"layer_{i + 1}" for i in range(LAYERS)}
    for name, label in {**labels, "transformer.prev_layer_weights": "head"}.items():
        for source in range(len(spy.seen[0][name])):
            expected = {step: torch.softmax(spy.seen[step][name].double(), 0)[source].item() for step in (0, 2, 4, 5)}
            assert found[f"layer_weights/{label}/from_{source}"] == pytest.approx(expected)
    assert "layer_weights/layer_1/from_1" not in found
    assert f"layer_weights/head/from_{LAYERS}" in found


def test_derived_figures() -> None:
    found = describe([0.5, 0.25, 0.25], before=[0.25, 0.5, 0.25])
    assert found == pytest.approx(
        {
            "from_0": 0.5,
            "from_1": 0.25,
            "from_2": 0.25,
            "entropy": 1.5 * math.log(2),
            "expected_source": 0.75,
            "embedding_share": 0.5,
            "previous_share": 0.25,
            "drift": 0.25,
        }
    )
    assert "drift" not in describe([1.0], before=None)


def test_softmax_of_extreme_and_broken_weights() -> None:
    assert softmax([1e30, 0.0]) == [1.0, 0.0]
    assert all(math.isnan(share) for share in softmax([math.nan, 0.0]))
    assert all(math.isnan(share) for share in softmax([math.inf, 0.0]))
    assert all(math.isnan(share) for share in softmax([0.0, math.nan]))
    assert all(math.isnan(share) for share in softmax([-math.inf, -math.inf]))
    assert softmax([-math.inf, 1.0, 1.0]) == [0.0, 0.5, 0.5]
    assert math.isnan(describe(softmax([math.nan, 0.0]), None)["entropy"])


def test_pictures_and_history_lie_in_the_folder(tmp_path: Path) -> None:
    monitor = LayerWeightMonitor(interval="2ba", picture_interval="2ba", folder=str(tmp_path / "{run_name}"))
    trainer(ToyElc(), [monitor], steps=4).fit()
    folder = tmp_path / "toy"
    assert {"layer_weights.jsonl", "layer_weights.png", "layer_weights_over_time.png"} == {
        p.name for p in folder.iterdir()
    }
    records = [json.loads(line) for line in (folder / "layer_weights.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [0, 2, 4]
    assert list(records[0]["layers"]) == ["1", "2", "3", "head"]
    assert records == monitor.history


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    trainer(ToyElc(), [LayerWeightMonitor(interval="1ba", picture_interval="1ba", folder=None)], steps=2).fit()
    assert not list(tmp_path.iterdir())


def test_resuming_from_an_earlier_checkpoint_gives_the_undisturbed_history(tmp_path: Path) -> None:
    def run(folder: str, steps: int, **changes: object) -> LayerWeightMonitor:
        monitor = LayerWeightMonitor(interval="1ba", folder=str(tmp_path / folder))
        trainer(ToyElc(), [monitor], steps=6, max_duration=f"{steps}ba", **changes).fit()
        return monitor

    whole = run("whole", 6)
    run("parts", 5, save_folder=str(tmp_path / "checkpoints"), save_interval="2ba")
    checkpoint = str(tmp_path / "checkpoints" / "ep0-ba4-rank0.pt")
    resumed = run("parts", 6, load_path=checkpoint)
    assert resumed.history == whole.history
    files = [tmp_path / folder / "layer_weights.jsonl" for folder in ("whole", "parts")]
    assert files[0].read_text() == files[1].read_text()

    elsewhere = run("elsewhere", 6, load_path=checkpoint)
    assert elsewhere.history == whole.history
    assert (tmp_path / "elsewhere" / "layer_weights.jsonl").read_text() == files[0].read_text()


def test_ranks_measure_equally_often_though_only_one_reads_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer(ToyElc(), [], save_folder=str(tmp_path / "checkpoints"), save_interval="4ba").fit()
    (tmp_path / "first").mkdir()
    records = [{"step": step, "layers": {"1": [1.0]}} for step in (0, 2, 4, 5)]
    path = tmp_path / "first" / "layer_weights.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    measured: dict[str, list[int]] = {"first": [], "second": []}
    for rank, folder in (("first", str(tmp_path / "first")), ("second", None)):
        monitor = LayerWeightMonitor(interval="5ba", folder=folder)
        measure = monitor._measure
        monkeypatch.setattr(
            monitor,
            "_measure",
            lambda state, logger, rank=rank, measure=measure: (
                measured[rank].append(int(state.timestamp.batch)),
                measure(state, logger),
            ),
        )
        trainer(ToyElc(), [monitor], load_path=str(tmp_path / "checkpoints" / "ep0-ba4-rank0.pt")).fit()
    assert measured["first"] == measured["second"] == [4, 5, 6]
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [0, 2, 4, 5, 6]


def test_a_model_without_such_parameters_gets_one_warning(tmp_path: Path) -> None:
    monitor = LayerWeightMonitor(interval="1ba", picture_interval="1ba", folder=str(tmp_path))
    run = trainer(ToyElc("ltg"), [monitor], steps=3)
    with pytest.warns(UserWarning, match="LayerWeightMonitor: no parameter matches") as caught:
        run.fit()
    assert len([w for w in caught if "LayerWeightMonitor" in str(w.message)]) == 1
    assert not logged(run, "layer_weights/")
    assert not list(tmp_path.iterdir())


def test_a_model_without_such_parameters_is_not_shown_with_another_ones(tmp_path: Path) -> None:
    for name in ("layer_weights.jsonl", "mixed_inputs.jsonl"):
        (tmp_path / name).write_text('{"step": 3, "layers": {"1": [1.0]}}\n')
    monitors = [LayerWeightMonitor(folder=str(tmp_path)), MixedInputMonitor(folder=str(tmp_path))]
    with pytest.warns(UserWarning, match="no parameter matches"):
        trainer(ToyElc("ltg"), monitors, steps=1).fit()
    assert [path.read_text() for path in tmp_path.iterdir()] == ["", ""]


def test_other_parameters_by_pattern(tmp_path: Path) -> None:
    monitor = LayerWeightMonitor(pattern=r"attention\.out_proj\.bias$", interval="1ba", folder=None)
    run = trainer(ToyElc(), [monitor], steps=1)
    run.fit()
    assert f"layer_weights/layer_{LAYERS}/from_15" in logged(run, "layer_weights/")


def test_history_in_checkpoints_stays_bounded(tmp_path: Path) -> None:
    monitor = LayerWeightMonitor(interval="1ba", folder=str(tmp_path))
    run = trainer(ToyElc(), [monitor], steps=3)
    monitor.history = [{"step": -i, "layers": {"1": [1.0]}} for i in range(HISTORY_LIMIT, 0, -1)]
    run.fit()
    assert len(monitor.history) == HISTORY_LIMIT // 2 + 4
    assert [record["step"] for record in monitor.history[-4:]] == [0, 1, 2, 3]


def test_a_folder_that_cannot_be_written_costs_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    run = trainer(ToyElc(), [LayerWeightMonitor(interval="1ba", folder=str(tmp_path / "file"))], steps=2)
    with pytest.warns(UserWarning, match="the run continues without"):
        run.fit()
    assert int(run.state.timestamp.batch) == 2
    assert logged(run, "layer_weights/")


def test_it_is_a_config_of_its_own() -> None:
    config = OmegaConf.structured(LayerWeightMonitor)
    assert set(config) == {"pattern", "interval", "picture_interval", "folder"}
    merged = OmegaConf.merge(config, {"interval": "7ba"})
    monitor = OmegaConf.to_object(merged)
    assert isinstance(monitor, LayerWeightMonitor)
    assert monitor.interval == "7ba"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"interval": "often"}, "layer_weight_monitor.interval is 'often'"),
        ({"interval": "0ba"}, "layer_weight_monitor.interval is '0ba'; it must be a positive number"),
        ({"picture_interval": "-1ep"}, "layer_weight_monitor.picture_interval"),
        ({"pattern": "("}, "layer_weight_monitor.pattern"),
    ],
)
def test_bad_settings(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        LayerWeightMonitor(**settings)
