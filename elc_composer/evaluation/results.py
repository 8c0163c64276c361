"""Writes the results of an evaluation: JSON file, table, picture."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from elc_composer.common.files import write_text
from elc_composer.evaluation.aggregate import ScoredPairs
from elc_composer.evaluation.config import Ties
from elc_composer.figures.canvas import GRID, INK, MUTED, SERIES, literal, new_figure

AVERAGES = {
    "macro_paradigms": "mean over paradigms",
    "macro_phenomena": "mean over phenomena",
    "micro": "over all pairs",
}


def pair_rows(name: str, scored: ScoredPairs, ties: Ties) -> list[dict[str, Any]]:
    """One JSON object per pair: its name, both scores in nats, numbers of tokens and of [UNK], and its credit."""
    return [
        {
            "set": name,
            "paradigm": pair.paradigm,
            "pair_id": pair.pair_id,
            "score_good": good,
            "score_bad": bad,
            "tokens_good": tokens[0],
            "tokens_bad": tokens[1],
            "unk_good": unknown[0],
            "unk_bad": unknown[1],
            "credit": credit,
        }
        for pair, (good, bad), tokens, unknown, credit in zip(
            scored.pairs,
            scored.scores.tolist(),
            scored.tokens.tolist(),
            scored.unknown.tolist(),
            scored.credit(ties).tolist(),
        )
    ]


def write_results(path: Path, results: dict[str, Any]) -> None:
    """Write results as JSON, atomically.

    Each entry of `pairs` is on one line: fully indented, the results of all of BLiMP have 700,000 lines.
    """
    entries = [f" {json.dumps(key)}: {_indented(value)}" for key, value in results.items() if key != "pairs"]
    rows = ",\n".join(f" {json.dumps(row, ensure_ascii=False)}" for row in results["pairs"])
    entries.append(f' "pairs": [\n{rows}\n ]')
    write_text(path, "{\n" + ",\n".join(entries) + "\n}\n")


def _indented(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False).replace("\n", "\n ")


def table(sets: Mapping[str, Mapping[str, Any]]) -> str:
    """Table of each set's phenomena and averages, in per cent, with 95 % intervals."""
    lines = []
    for name, summary in sets.items():
        lines += ["", f"{name} ({summary['pairs']:,} pairs)"]
        lines += [_line(phenomenon, entry) for phenomenon, entry in summary["phenomena"].items()]
        lines.append(f"  {'-' * 57}")
        for key, label in AVERAGES.items():
            entry = {"accuracy": summary["accuracy"][key], "interval_95": summary["interval_95"][key]}
            lines.append(_line(label, entry))
        lines.append(
            f"  ties {summary['ties']}, pairs of unequal length {summary['unequal_length_pairs']}, "
            f"pairs with [UNK] {summary['pairs_with_unk']}"
        )
    return "\n".join(lines[1:])


def _line(label: str, entry: Mapping[str, Any]) -> str:
    low, high = (100 * bound for bound in entry["interval_95"])
    pairs = f"{entry['pairs']:>7,}" if "pairs" in entry else " " * 7
    return f"  {label:<28} {100 * entry['accuracy']:5.1f}  [{low:5.1f}, {high:5.1f}]  {pairs}"


def picture(sets: Mapping[str, Mapping[str, Any]], title: str) -> Figure:
    """Picture of each paradigm's accuracy and interval, grouped by phenomenon, best group first."""
    rows = [row for name, summary in sets.items() for row in _picture_rows(name, summary)]
    figure = new_figure(8.5, 1.6 + 0.17 * len(rows))
    axes = figure.add_subplot()
    y = np.arange(len(rows))
    accuracy = np.array([100 * row["accuracy"] for row in rows])
    low, high = 100 * np.array([row["interval_95"] for row in rows]).T
    shown = list(dict.fromkeys(row["group"] for row in rows))
    colours = [SERIES[shown.index(row["group"]) % len(SERIES)] for row in rows]
    axes.hlines(y, low, high, color=colours, linewidth=1.2, alpha=0.6)
    axes.scatter(accuracy, y, c=colours, s=14, zorder=3)
    axes.axvline(50, color=MUTED, linewidth=0.8, linestyle="--")
    axes.set_yticks(y, [literal(row["name"]) for row in rows], fontsize=6.5, color=INK)
    axes.set_xlim(0, 100)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("accuracy, %  (dashed: chance; lines: 95 % interval)", fontsize=8, color=MUTED)
    axes.grid(axis="x", color=GRID, linewidth=0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    for group in shown:
        inside = [i for i, row in enumerate(rows) if row["group"] == group]
        axes.text(
            1.01, float(np.mean(inside)), literal(group), transform=axes.get_yaxis_transform(), fontsize=7, va="center",
            color=colours[inside[0]],
        )  # fmt: skip
    axes.set_title(literal(title), fontsize=10, color=INK, loc="left")
    return figure


def _picture_rows(set_name: str, summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    phenomena = summary["phenomena"]
    single = all(name in summary["paradigms"] for name in phenomena)
    order = sorted(phenomena, key=lambda name: -phenomena[name]["accuracy"])
    return [
        {"name": name, "group": set_name if single else phenomenon, **entry}
        for phenomenon in order
        for name, entry in summary["paradigms"].items()
        if entry["phenomenon"] == phenomenon
    ]
