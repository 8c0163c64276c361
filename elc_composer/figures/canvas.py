"""Matplotlib figures without pyplot: creation, titles, PNG files, pixels."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from elc_composer.common.files import atomic_file

INK = "#1f2430"
MUTED = "#6b7280"
GRID = "#e5e7eb"
SERIES = ("#2563a8", "#d1642b", "#350048", "#b505fc", "#73677c", "#6b2b00", "#b8816c", "#30008e")
"""Colours of curves: distinguishable with any kind of colour vision and on white; the report page has the same."""
TITLE_SIZE = 11
TITLE_CHARACTER = 0.075
"""Width of an average character of a title, in inches."""
TITLE_LINE = 0.19
"""Height of a line of a title, in inches."""
TITLE_MARGIN = 0.01
"""Space beside a title, relative to the figure's width."""


def literal(text: str) -> str:
    """The text as matplotlib must be given it.

    Dollar signs would start a formula, a leading underscore would hide the name from legends, and lone surrogates
    cannot be drawn.
    """
    escaped = text.encode("utf-8", "replace").decode("utf-8").replace("$", r"\$")
    return f" {escaped}" if escaped.startswith("_") else escaped


def new_figure(width: float, height: float) -> Figure:
    """An empty white figure; width and height in inches."""
    figure = Figure(figsize=(width, height), dpi=120, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def set_title(figure: Figure, title: str) -> None:
    """Put a title above the figure, on as many lines as its width requires; more lines make the figure higher."""
    text = figure.suptitle("", x=TITLE_MARGIN, ha="left", color=INK, fontsize=TITLE_SIZE)
    characters = int(figure.get_figwidth() / TITLE_CHARACTER)
    while True:
        lines = textwrap.wrap(title, characters) or [""]
        text.set_text("\n".join(literal(line) for line in lines))
        if characters == 1 or text.get_window_extent().x1 <= (1 - TITLE_MARGIN) * figure.bbox.width:
            break
        characters = max(int(0.9 * characters), 1)  # wide characters: fewer fit
    figure.set_figheight(figure.get_figheight() + TITLE_LINE * (len(lines) - 1))


def save(figure: Figure, path: Path | str) -> Path:
    """Write a PNG atomically."""
    path = Path(path)
    with atomic_file(path) as file:
        figure.savefig(file, format="png")
    return path


def pixels(figure: Figure) -> np.ndarray:
    """The drawn figure, `[height, width, 3]` uint8."""
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
