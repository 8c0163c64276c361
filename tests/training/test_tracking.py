"""Experiment trackers get the config and the parameter count; restarts continue the same W&B run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pytest
import wandb
from composer.core import Callback, State
from composer.loggers import Logger, LoggerDestination, TensorboardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from elc_composer.common.run_folder import CONFIG, WANDB_RUN_ID
from elc_composer.common.strict_yaml import to_yaml
from elc_composer.training.config import load_config
from elc_composer.training.loggers import LoggersConfig, MlflowConfig, WandbConfig, build_loggers
from elc_composer.training.tracking import PARAMETERS, RunDescription, wandb_run_id
from tests.callbacks.toys import ToyElc, trainer
from tests.conftest import ROOT

SECRET = "hunter2-from-the-environment"


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> str:
    """A resolved config with a value from the environment, as YAML."""
    monkeypatch.setenv("TRACKING_TEST_NAME", SECRET)
    loaded = load_config(ROOT / "yamls" / "quickstart.yaml", ["run_name=${oc.env:TRACKING_TEST_NAME}", "seed=17"])
    return to_yaml(loaded)


def train(config: str, loggers: list[LoggerDestination], *others: Callback) -> None:
    run = trainer(ToyElc(), [RunDescription(config, 1234), *others], steps=1, loggers=loggers)
    run.fit()
    run.close()


def test_tensorboard_gets_the_config_and_the_parameter_count(tmp_path: Path, config: str) -> None:
    train(config, [TensorboardLogger(log_dir=str(tmp_path))])
    found = EventAccumulator(str(tmp_path / "toy")).Reload()
    texts = {tag: found.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in found.Tags()["tensors"]}
    assert texts[f"{PARAMETERS}/text_summary"] == "1,234"
    assert "seed: 17" in texts[f"{CONFIG}/text_summary"]
    assert SECRET not in "".join(texts.values())


def test_mlflow_gets_the_config_once_and_resumes(tmp_path: Path, config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # MLflow 3.17 asks for consent to a local folder
    uri = (tmp_path / "mlruns").as_uri()
    settings = LoggersConfig(metrics_file=False, mlflow=MlflowConfig(experiment_name="toy", tracking_uri=uri))
    for resumed in (False, True):
        loggers = build_loggers(settings, tmp_path, "toy", resumed=resumed)
        train(config.replace("seed: 17", "seed: 18") if resumed else config, loggers)
    client = mlflow.MlflowClient(tracking_uri=uri)
    (run,) = client.search_runs([client.get_experiment_by_name("toy").experiment_id])
    assert run.data.params[PARAMETERS] == "1234"
    assert run.data.params["seed"] == "17"
    assert run.data.params["run_name"] == "${oc.env:TRACKING_TEST_NAME}"
    assert SECRET not in str(run.data.params)


class WandbRun(Callback):
    """Keeps the id and the config of the W&B run that is active at the end of training."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, Any]]] = []

    def fit_end(self, state: State, logger: Logger) -> None:
        assert wandb.run is not None
        self.seen.append((wandb.run.id, dict(wandb.run.config)))


def test_restarts_continue_the_same_wandb_run(tmp_path: Path, config: str, offline_wandb: Path) -> None:
    settings = LoggersConfig(metrics_file=False, wandb=WandbConfig(project="toy"))
    watched = WandbRun()
    for changed in (config, config.replace("seed: 17", "seed: 18")):
        train(changed, build_loggers(settings, tmp_path / "run", "toy"), watched)
    (first, began), (second, resumed) = watched.seen
    assert first == second == (tmp_path / "run" / WANDB_RUN_ID).read_text().strip()
    assert (began["seed"], resumed["seed"]) == (17, 18)
    assert began[PARAMETERS] == 1234
    assert SECRET not in str(watched.seen)


def test_a_damaged_run_id_is_replaced(tmp_path: Path) -> None:
    (tmp_path / WANDB_RUN_ID).write_text("\x00/../")
    fresh = wandb_run_id(tmp_path)
    assert fresh.isalnum()
    assert wandb_run_id(tmp_path) == fresh
