"""Writes the results of an analysis: tables for the terminal, JSON and pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from elc_composer.analyze.pruning import Shares, describe_shares, distance
from elc_composer.common.files import write_text
from elc_composer.figures.canvas import GRID, INK, MUTED, SERIES, literal, new_figure, save, set_title
from elc_composer.figures.heatmap import draw_heatmap, small_multiples

Row = dict[str, Any]
"""Result of one threshold and choice of layers; see `docs/report.md`."""


def write_shares(out: Path, shares: dict[str, Shares]) -> None:
    """Write `layer_weights.json` and `layer_weights.png`, the heatmaps of all models."""
    first = next(iter(shares))
    models = {
        name: {"shares": rows, "layers": describe_shares(rows), "distance_to_first": distance(rows, shares[first])}
        for name, rows in shares.items()
    }
    write_text(out / "layer_weights.json", json.dumps({"first": first, "models": models}, indent=1) + "\n")
    if len(shares) == 1:
        draw_heatmap(shares[first], out / "layer_weights.png", f"What each layer reads: {first}")
    else:
        save(beside_each_other(shares), out / "layer_weights.png")


def write_pruning(out: Path, pairs: int, results: dict[str, list[Row]]) -> None:
    """Write `pruning.json` and `pruning.png`; `pairs` is the number of scored pairs."""
    write_text(out / "pruning.json", json.dumps({"pairs": pairs, "models": results}, indent=1) + "\n")
    save(pruning_picture(results), out / "pruning.png")


def beside_each_other(shares: dict[str, Shares]) -> Figure:
    """One heatmap for each model."""
    figure = small_multiples(list(enumerate(shares.values())), "What each layer reads", len(shares))
    for axes, name in zip(figure.axes, shares):
        axes.set_title(literal(name), fontsize=9, color=INK)
    return figure


def shares_table(shares: dict[str, Shares]) -> str:
    """Table of the shares of every source, and of each layer's distance to the first model's."""
    first, lines = next(iter(shares.values())), []
    for name, rows in shares.items():
        width = max(map(len, rows.values()))
        heads = "".join(f"{head:>6}" for head in ["emb", *map(str, range(1, width))])
        lines += ["", f"{name}: share of each source", f"  layer {heads}  distance"]
        far = distance(rows, first)
        for label, row in rows.items():
            cells = "".join(f"{share:6.3f}" for share in row) + " " * 6 * (width - len(row))
            lines.append(f"  {label:<6}{cells}  {far[label]:8.3f}" if label in far else f"  {label:<6}{cells}")
    return "\n".join(lines[1:])


def pruning_table(results: dict[str, list[Row]]) -> str:
    """Table of accuracies by threshold."""
    lines = []
    for name, rows in results.items():
        lines += ["", f"{name}: accuracy in % (mean over paradigms) with shares below a threshold pruned"]
        lines.append(f"  {'below':>6} {'layer':>6} {'sources':>8} {'accuracy':>9}  {'95 %':<15} {'lost':>5} {'won':>5}")
        for row in rows:
            low, high = (100 * bound for bound in row["interval_95"]["macro_paradigms"])
            lines.append(
                f"  {row['threshold']:6g} {row['layers']:>6} {row['pruned_sources']:8d} "
                f"{100 * row['accuracy']['macro_paradigms']:9.2f}  [{low:5.1f}, {high:5.1f}]  "
                f"{row['pairs_lost']:5d} {row['pairs_won']:5d}"
            )
    return "\n".join(lines[1:])


def pruning_picture(results: dict[str, list[Row]]) -> Figure:
    """Accuracy by threshold with all layers pruned: one line for each model, with its 95 % interval."""
    figure = new_figure(7.2, 4.2)
    axes = figure.add_subplot()
    for number, (name, rows) in enumerate(results.items()):
        shown = [row for row in rows if row["layers"] in ("none", "all")]
        x = [row["threshold"] for row in shown]
        y = [row["accuracy"]["macro_paradigms"] for row in shown]
        low, high = zip(*(row["interval_95"]["macro_paradigms"] for row in shown))
        axes.fill_between(x, low, high, color=SERIES[number % len(SERIES)], alpha=0.15, linewidth=0)
        axes.plot(x, y, marker="o", markersize=4, color=SERIES[number % len(SERIES)], label=literal(name))
    axes.axhline(0.5, color=MUTED, linestyle="--", linewidth=1, label="chance (0.5)")
    set_title(figure, "Minimal pairs with small layer weights pruned")
    axes.set_xlabel("shares below this are pruned", color=INK)
    axes.set_ylabel("accuracy (mean over paradigms)", color=INK)
    axes.grid(color=GRID, linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    return figure
