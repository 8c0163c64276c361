"""Plotly layouts of the charts that follow the step slider: heatmaps of the layers and histograms of the weights."""

from __future__ import annotations

from collections.abc import Sequence

from elc_composer.report.line_figures import Figure, plain

HISTOGRAM_HEIGHT = 130
MAX_TICKS = 30


def heatmap_layout(labels: Sequence[str], sources: int) -> Figure:
    """Layout of a heatmap with one row per layer; rows and columns are numbered and named by ticks."""
    names = [f"layer {label}" if label.isdigit() else label for label in labels]
    every = 1 if sources <= MAX_TICKS else 5
    columns, rows = range(0, sources, every), range(0, len(names), every)
    names_of_columns = ["emb", *map(str, range(1, sources))]
    axis = {"showgrid": False, "ticks": ""}
    return {
        "margin": {"t": 24, "r": 34, "b": 4, "l": 62},
        "modebar": {"orientation": "v"},  # beside the cells, not over the names of the columns
        "showlegend": False,
        "uirevision": "kept",
        "xaxis": {
            **axis,
            "side": "top",
            "range": [-0.5, sources - 0.5],
            "tickvals": list(columns),
            "ticktext": [names_of_columns[i] for i in columns],
        },
        "yaxis": {
            **axis,
            "range": [len(names) - 0.5, -0.5],
            "tickvals": list(rows),
            "ticktext": [plain(names[i]) for i in rows],
        },
    }


def histogram_layout() -> Figure:
    """Layout of a unit's histograms; the script sets the ends of the axes."""
    return {
        "height": HISTOGRAM_HEIGHT,
        "margin": {"t": 4, "r": 24, "b": 22, "l": 24},
        "showlegend": False,
        "hovermode": "closest",
        "uirevision": "kept",
        "xaxis": {"showgrid": False, "zeroline": True, "hoverformat": ".4~g"},
        "yaxis": {"visible": False, "fixedrange": True},
    }
