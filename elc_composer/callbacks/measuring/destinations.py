"""Sends pictures and histograms to the loggers that can show them; Composer's Logger has no method for histograms."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from composer.loggers import Logger, TensorboardLogger, WandBLogger
from composer.utils import dist
from matplotlib.figure import Figure

from elc_composer.common.errors import one_line
from elc_composer.figures.canvas import save


def log_picture(logger: Logger, name: str, image: np.ndarray, step: int) -> None:
    """Send an image `[height, width, 3]` (uint8) from rank 0 to every destination; warns if one fails."""
    if dist.get_global_rank() != 0:
        return
    for destination in logger.destinations:
        try:
            destination.log_images(image, name, True, step, None, None, False)
        except Exception as error:  # a picture must not end the run
            warnings.warn(
                f"{type(destination).__name__} could not log the picture {name}: {one_line(error)}", stacklevel=2
            )


def save_picture(figure: Figure, path: Path | None) -> None:
    """Write a picture; does nothing if `path` is None. If it cannot be written, warns and continues."""
    if path is not None:
        try:
            save(figure, path)
        except OSError as error:
            warnings.warn(f"the run continues without {path}: {one_line(error)}", stacklevel=2)


def log_histograms(logger: Logger, histograms: Mapping[str, tuple[np.ndarray, np.ndarray]], step: int) -> None:
    """Send histograms, each `(counts [n], edges [n + 1])`, from rank 0 to TensorBoard and W&B."""
    if dist.get_global_rank() != 0:
        return
    for destination in logger.destinations:
        if isinstance(destination, TensorboardLogger) and destination.writer is not None:
            for name, (counts, edges) in histograms.items():
                middles = (edges[:-1] + edges[1:]) / 2
                destination.writer.add_histogram_raw(
                    name,
                    min=float(edges[0]),
                    max=float(edges[-1]),
                    num=float(counts.sum()),
                    sum=float((counts * middles).sum()),
                    sum_squares=float((counts * middles**2).sum()),
                    bucket_limits=edges[1:].tolist(),
                    bucket_counts=counts.tolist(),
                    global_step=step,
                )
        elif isinstance(destination, WandBLogger):
            import wandb

            destination.log_metrics(
                {name: wandb.Histogram(np_histogram=(counts, edges)) for name, (counts, edges) in histograms.items()},
                step,
            )
