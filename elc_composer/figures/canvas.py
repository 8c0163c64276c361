"""Figures without pyplot: made, written whole or not at all, or turned into pixels."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

INK = "#1f2430"
MUTED = "#6b7280"
GRID = "#e5e7eb"
SERIES = ("#2563a8", "#d1642b", "#350048", "#b505fc", "#73677c", "#6b2b00", "#b8816c", "#30008e")
"""Told apart by readers with any kind of colour vision, and against white; the report page has them, too."""


def literal(text: str) -> str:
    """A name as matplotlib must be given it: no formula between dollars, no underscore that hides it from legends."""
    escaped = text.replace("$", r"\$")
    return f" {escaped}" if escaped.startswith("_") else escaped


def new_figure(width: float, height: float) -> Figure:
    """An empty white figure of that many inches."""
    figure = Figure(figsize=(width, height), dpi=120, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path | str) -> Path:
    """Write a PNG; a reader sees the old picture or the new one, never half."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    figure.savefig(partial, format="png")
    os.replace(partial, path)
    return path


def pixels(figure: Figure) -> np.ndarray:
    """`[height, width, 3]` uint8."""
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
