"""Layer-by-source heatmaps: the shares of the embedding and of every earlier layer in what each layer reads.

Modelled on the figure of layer contributions in Georges Gabriel Charpentier & Samuel 2023.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from PIL import Image

from elc_composer.common.files import atomic_file
from elc_composer.figures.canvas import INK, MUTED, literal, new_figure, pixels, save, set_title

Rows = Mapping[str, Sequence[float]]
"""Layer label -> its shares of sources 0 (embedding), 1 (layer 1), ..."""


def _matrix(rows: Rows) -> np.ndarray:
    matrix = np.full((len(rows), max(map(len, rows.values()))), np.nan)
    for row, values in zip(matrix, rows.values()):
        row[: len(values)] = [np.nan if value is None else value for value in values]
    return matrix


def _paint(axes: Axes, matrix: np.ndarray) -> AxesImage:
    # Shares span three orders of magnitude: the square root keeps small ones apart. Fixed ends keep pictures
    # comparable.
    image = axes.imshow(matrix, cmap="Blues", norm=PowerNorm(0.5, vmin=0.0, vmax=1.0), aspect="equal")
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0, colors=INK)
    return image


def _source_names(count: int) -> list[str]:
    return ["emb", *map(str, range(1, count))]


def heatmap(rows: Rows, title: str, value: str = "share of the layer's input") -> Figure:
    """A heatmap of shares (0 to 1): rows are layers, columns are sources; `value` is the label of the colour bar."""
    matrix = _matrix(rows)
    layers, sources = matrix.shape
    cell = 0.52 if sources <= 16 else 0.4 if sources <= 30 else 0.22
    figure = new_figure(max(4.6, sources * cell + 2.6), max(2.8, layers * cell + 1.1))
    axes = figure.add_subplot()
    image = _paint(axes, matrix)
    names = _source_names(sources)
    every = 1 if sources <= 30 else 5
    axes.set_xticks(range(0, sources, every), names[::every])
    axes.set_yticks(range(0, layers, every), [literal(row) for row in list(rows)[::every]])
    axes.set_xlabel("source (emb: the embedding; n: layer n's output)", color=INK)
    axes.set_ylabel("layer", color=INK)
    set_title(figure, title)
    if sources <= 30:
        for y, x in zip(*np.nonzero(~np.isnan(matrix))):
            share = matrix[y, x]
            text = "1" if share >= 0.9995 else f"{share:.2f}".removeprefix("0")
            size = 8.5 if sources <= 16 else 6.5
            axes.text(x, y, text, ha="center", va="center", fontsize=size, color="white" if share > 0.515 else "black")
    bar = figure.colorbar(image, ax=axes, ticks=[0, 0.05, 0.2, 0.5, 1.0], fraction=0.046, pad=0.02)
    bar.set_label(value, color=MUTED)
    bar.outline.set_visible(False)
    return figure


def small_multiples(history: Sequence[tuple[int, Rows]], title: str, count: int = 8) -> Figure:
    """At most `count` heatmaps side by side, evenly spaced over `history` (step, rows), with the first and the last."""
    picks = sorted({round(i) for i in np.linspace(0, len(history) - 1, min(count, len(history)))})
    columns = min(4, len(picks))
    lines = -(-len(picks) // columns)
    figure = new_figure(2.6 * columns + 1.0, 2.7 * lines + 0.6)
    grid = figure.subplots(lines, columns, squeeze=False)
    image = None
    for axes in grid.flat[len(picks) :]:
        axes.set_axis_off()
    for axes, pick in zip(grid.flat, picks):
        step, rows = history[pick]
        matrix = _matrix(rows)
        image = _paint(axes, matrix)
        names = _source_names(matrix.shape[1])
        every = max(1, len(names) // 6)
        axes.set_xticks(range(0, len(names), every), names[::every], fontsize=7)
        axes.set_yticks(range(0, len(rows), every), [literal(row) for row in list(rows)[::every]], fontsize=7)
        axes.set_title(f"step {step:,}", fontsize=9, color=INK)
    set_title(figure, title)
    figure.supxlabel("source", fontsize=9, color=INK)
    figure.supylabel("layer", fontsize=9, color=INK)
    if image is not None:
        bar = figure.colorbar(image, ax=grid, ticks=[0, 0.05, 0.2, 0.5, 1.0], fraction=0.03, pad=0.02)
        bar.outline.set_visible(False)
    return figure


def animate(
    history: Sequence[tuple[int, Rows]], path: Path | str, title: str, frames: int = 60, seconds: float = 8.0
) -> Path:
    """Write a GIF of at most `frames` heatmaps, evenly spaced over `history`; the last one stays for two seconds."""
    picks = sorted({round(i) for i in np.linspace(0, len(history) - 1, min(frames, len(history)))})
    images = [Image.fromarray(pixels(heatmap(history[i][1], f"{title}, step {history[i][0]:,}"))) for i in picks]
    each = int(1000 * seconds / len(images))
    path = Path(path)
    durations = [each] * (len(images) - 1) + [2000]
    with atomic_file(path) as file:
        images[0].save(file, save_all=True, append_images=images[1:], duration=durations, loop=0, format="GIF")
    return path


def draw_heatmap(rows: Rows, path: Path | str, title: str, value: str = "share of the layer's input") -> Path:
    """Write `heatmap` to `path` as PNG."""
    return save(heatmap(rows, title, value), path)


def draw_small_multiples(history: Sequence[tuple[int, Rows]], path: Path | str, title: str, count: int = 8) -> Path:
    """Write `small_multiples` to `path` as PNG."""
    return save(small_multiples(history, title, count), path)
