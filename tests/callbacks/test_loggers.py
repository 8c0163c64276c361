"""Monitors with every logger: TensorBoard, W&B, MLflow, file, console, in memory, metrics file."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from composer.core import Callback
from composer.loggers import FileLogger, InMemoryLogger, LoggerDestination, MLFlowLogger, TensorboardLogger, WandBLogger

from elc_composer.callbacks import LayerWeightMonitor, MetricsFile, MixedInputMonitor, WeightDistributionMonitor
from elc_composer.callbacks.measuring.destinations import log_picture
from tests.callbacks.toys import ToyElc, trainer


def monitors() -> list[Callback]:
    return [
        LayerWeightMonitor(interval="1ba", picture_interval="1ba", folder=None),
        WeightDistributionMonitor(interval="1ba", folder=None, sample_size=10_000, bins=16),
        MixedInputMonitor(interval="1ba", picture_interval="1ba", folder=None),
    ]


def train(logger: LoggerDestination, steps: int = 2) -> None:
    run = trainer(ToyElc(), monitors(), steps=steps, loggers=[logger])
    run.fit()
    run.close()


def test_tensorboard_gets_scalars_histograms_and_pictures(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train(TensorboardLogger(log_dir=str(tmp_path)))
    found = accumulator.EventAccumulator(str(tmp_path / "toy"), size_guidance={"histograms": 0, "images": 0}).Reload()
    tags = found.Tags()
    assert "layer_weights/layer_2/from_0" in tags["scalars"]
    assert {"layer_weights/heatmap", "mixed_input/heatmap"} <= set(tags["images"])
    name = "weight_histograms/transformer.layers.1"
    assert [event.step for event in found.Histograms(name)] == [1, 2]
    value = found.Histograms(name)[-1].histogram_value
    model = ToyElc()
    count = sum(p.numel() for n, p in model.model.named_parameters() if n.startswith("transformer.layers.1."))
    assert value.num == count
    assert sum(value.bucket) == count
    image = found.Images("layer_weights/heatmap")[-1]
    assert (image.width, image.height) > (300, 200)


class FakeWandb(types.ModuleType):
    """As much of wandb as Composer's logger and the histograms use."""

    class Histogram:
        def __init__(self, np_histogram: tuple[np.ndarray, np.ndarray]) -> None:
            self.counts, self.edges = np_histogram

    class Image:
        def __init__(self, image: np.ndarray, masks: Any = None) -> None:
            self.image = np.asarray(image)

    def __init__(self) -> None:
        super().__init__("wandb")
        self.logged: list[tuple[int, dict[str, Any]]] = []
        self.run = types.SimpleNamespace(entity="e", project="p", dir=".", get_url=lambda: None)
        self.config = types.SimpleNamespace(update=lambda values: None)

    def init(self, **kwargs: Any) -> None: ...

    def finish(self, code: int) -> None: ...

    def log(self, values: dict[str, Any], step: int) -> None:
        self.logged.append((step, values))


class OfflineWandb(WandBLogger):
    """Looks for no run to finish when the process ends, where the fake is gone."""

    def post_close(self) -> None: ...


def test_wandb_gets_histograms_and_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    train(OfflineWandb())
    found: dict[str, list[Any]] = {}
    for _, values in fake.logged:
        for name, value in values.items():
            found.setdefault(name, []).append(value)
    histogram = found["weight_histograms/transformer.layers.1"][-1]
    assert len(histogram.counts) == 16
    assert len(histogram.edges) == 17
    picture = found["layer_weights/heatmap"][-1][0].image
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert all(later >= earlier for (earlier, _), (later, _) in zip(fake.logged, fake.logged[1:])), (
        "W&B drops old steps"
    )


class OfflineMlflow(MLFlowLogger):
    """Composer's logger with its own ways of logging, but no server, run or process behind it."""

    def __init__(self) -> None:
        self.pictures: list[tuple[str, np.ndarray]] = []
        client = types.SimpleNamespace(log_image=lambda image, key, run_id, step: self.pictures.append((key, image)))
        self._enabled, self._run_id, self._mlflow_client = True, "r", client
        self.ignore_metrics, self.rename_metrics, self._metrics_cache = [], {}, {}
        self.log_duplicated_metric_every_n_steps, self.synchronous = 100, True

    def init(self, *args: Any) -> None: ...

    def after_load(self, *args: Any) -> None: ...

    def post_close(self, *args: Any) -> None: ...

    def log_hyperparameters(self, *args: Any) -> None: ...


def test_mlflow_gets_numbers_and_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers: dict[str, float] = {}
    fake = types.ModuleType("mlflow")
    fake.log_metrics = lambda metrics, step, synchronous: numbers.update(metrics)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    logger = OfflineMlflow()
    train(logger)
    assert "layer_weights/layer_2/entropy" in numbers
    assert all(isinstance(value, float) for value in numbers.values())
    assert {key for key, _ in logger.pictures} == {"layer_weights/heatmap_0", "mixed_input/heatmap_0"}
    assert all(np.asarray(image).shape[-1] == 3 for _, image in logger.pictures)


def test_mlflow_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # mlflow-skinny has no database store
    uri = (tmp_path / "mlruns").as_uri()
    train(MLFlowLogger(experiment_name="toy", tracking_uri=uri, synchronous=True))
    client = mlflow.MlflowClient(tracking_uri=uri)
    run = client.search_runs([client.get_experiment_by_name("toy").experiment_id])[0]
    assert run.data.metrics["layer_weights/layer_1/from_0"] == 1.0


def test_wandb_itself(offline_wandb: Path) -> None:
    wandb = pytest.importorskip("wandb")
    if not hasattr(wandb.wandb_sdk.wandb_run.Run, "get_url"):
        pytest.skip(f"Composer's logger calls Run.get_url, which wandb {wandb.__version__} no longer has")
    train(WandBLogger(project="toy"))
    assert list(offline_wandb.rglob("*.wandb")), "no offline run was written"


def test_file_and_memory_get_numbers(tmp_path: Path) -> None:
    train(FileLogger(filename=str(tmp_path / "log.txt"), remote_file_name=None))
    assert "layer_weights/layer_2/from_0" in (tmp_path / "log.txt").read_text()
    train(MetricsFile(str(tmp_path / "metrics.jsonl")))
    assert "weight_distribution/group_0/q50" in (tmp_path / "metrics.jsonl").read_text()
    memory = InMemoryLogger()
    train(memory)
    assert "mixed_input/head/norm" in memory.data


def test_logger_that_fails_on_pictures_does_not_end_the_run() -> None:
    class Blind(LoggerDestination):
        def log_images(self, *args: Any, **kwargs: Any) -> None:
            raise RuntimeError("no eyes")

    run = trainer(ToyElc(), [], loggers=[Blind()])
    with pytest.warns(UserWarning, match="Blind could not log the picture x: no eyes"):
        log_picture(run.logger, "x", np.zeros((2, 2, 3), dtype=np.uint8), 0)
