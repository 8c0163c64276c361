"""Describe a run to experiment trackers: resolved config and parameter count in W&B, MLflow and TensorBoard."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from composer.core import Callback, State
from composer.loggers import Logger, MLFlowLogger, TensorboardLogger, WandBLogger
from composer.utils import dist

from elc_composer.common.files import write_text
from elc_composer.common.redaction import leaves
from elc_composer.common.run_folder import CONFIG, WANDB_RUN_ID

PARAMETERS = "model/parameters"
"""Key of the parameter count."""
_MLFLOW_VALUE = 500
"""Characters of a parameter value that every MLflow server accepts."""


class RunDescription(Callback):
    """Sends the config and the number of parameters to the trackers once, when the Trainer has been built.

    W&B shows them as the run's config, MLflow as parameters and the artifact `config.yaml`, TensorBoard as texts.

    Args:
        config: the config as YAML, in which values from environment variables are still references.
        parameters: trainable parameters of the model, tied ones counted once.
    """

    def __init__(self, config: str, parameters: int) -> None:
        self.config = config
        self.parameters = parameters

    def after_load(self, state: State, logger: Logger) -> None:
        """Send the description; the trackers have begun their runs by now."""
        if dist.get_global_rank() != 0:
            return
        values = {key: value for key, value in leaves(yaml.safe_load(self.config)) if value is not None}
        values[PARAMETERS] = self.parameters
        step = int(state.timestamp.batch)
        for destination in logger.destinations:
            if isinstance(destination, WandBLogger):
                self._describe_to_wandb(values)
            elif isinstance(destination, MLFlowLogger):
                self._describe_to_mlflow(destination, values)
            elif isinstance(destination, TensorboardLogger) and destination.writer is not None:
                destination.writer.add_text(CONFIG, f"```yaml\n{self.config}\n```", step)
                destination.writer.add_text(PARAMETERS, f"{self.parameters:,}", step)

    def _describe_to_wandb(self, values: Mapping[str, Any]) -> None:
        import wandb

        # A resumed run may have other microbatches or kernels than it began with.
        wandb.config.update(dict(values), allow_val_change=True)

    def _describe_to_mlflow(self, destination: MLFlowLogger, values: Mapping[str, Any]) -> None:
        import mlflow

        run_id: Any = destination._run_id  # Composer 0.32.1 has no public attribute for it
        client = mlflow.MlflowClient(tracking_uri=destination.tracking_uri)
        # MLflow refuses another value for a parameter; a resumed run keeps the values that it began with.
        known = client.get_run(run_id).data.params
        for key, value in values.items():
            name = key.replace("[", ".").replace("]", "")
            if name not in known:
                client.log_param(run_id, name, str(value)[:_MLFLOW_VALUE])
        client.log_text(run_id, self.config, CONFIG)


def wandb_run_id(run_folder: Path) -> str:
    """The W&B run id of a run folder, the same for every process that continues the run.

    Raises:
        OSError: the folder cannot be written to.
    """
    path = run_folder / WANDB_RUN_ID
    if path.is_file() and (known := path.read_text(errors="replace").strip()).isalnum():
        return known
    run_id = secrets.token_hex(8)
    write_text(path, run_id + "\n")
    return run_id
