"""HTML page of a sweep: the table, curves of every task, and layer weights before and after fine-tuning."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from elc_composer.common import run_folder
from elc_composer.common.files import write_text
from elc_composer.figures.canvas import literal
from elc_composer.figures.curves import History, curves
from elc_composer.figures.heatmap import small_multiples
from elc_composer.finetuning.table import HEAD, Row, cells
from elc_composer.report.step_records import read_step_records
from elc_composer.report.theme import THEMES

STYLE = """
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1120px; padding: 1rem; background: var(--page); color: var(--ink);
  font: 15px/1.45 system-ui, sans-serif; overflow-wrap: anywhere; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .9rem;
  margin-bottom: .9rem; }
h1 { font-size: 1.35rem; } h2 { font-size: 1.1rem; margin: 0 0 .4rem; }
.note { color: var(--muted); font-size: .88rem; } .failed { color: var(--warn); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .2rem .7rem .2rem 0; border-bottom: 1px solid var(--line); }
img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
"""


def write_page(
    path: Path,
    title: str,
    note: str,
    rows: Sequence[Row],
    results: Sequence[Mapping[str, Any]],
    folders: Sequence[Path],
    failures: Mapping[str, str],
) -> Path:
    """Write the page; `folders` are the jobs' folders, in the order of `results`."""
    body = [f"<h1>{escape(title)}</h1>", f'<p class="note">{escape(note)}</p>']
    if failures:
        items = "".join(f"<li>{escape(name)}: {escape(reason)}</li>" for name, reason in failures.items())
        body.append(f'<section class="failed"><h2>Failed</h2><ul>{items}</ul></section>')
    body.append(f"<section><h2>Scores</h2>{_table(HEAD, [cells(row) for row in rows])}</section>")
    for task in dict.fromkeys(result["task"] for result in results):
        ours = [(result, folder) for result, folder in zip(results, folders) if result["task"] == task]
        pictures = [(_loss(task, ours), "loss by step"), (_scores(task, ours), "scores by epoch")]
        weights = _weights(ours[0][0])
        if weights is not None:
            pictures.append((weights, "layer weights"))
        shown = "".join(_image(figure, f"{task}: {name}") for figure, name in pictures if figure is not None)
        body.append(f"<section><h2>{escape(task)}</h2>{shown}</section>")
    styles = ":root {" + _variables("light") + "}"
    styles += "@media (prefers-color-scheme: dark) { :root {" + _variables("dark") + "} }" + STYLE
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    head += f'<meta http-equiv="Content-Security-Policy" content="{policy}"><title>{escape(title)}</title>'
    write_text(
        path,
        f'<!DOCTYPE html>\n<html lang="en"><head>{head}<style>{styles}</style></head>\n<body>'
        + "\n".join(body)
        + "</body></html>\n",
    )
    return path


def _variables(theme: str) -> str:
    return " ".join(f"{name}: {colour};" for name, colour in THEMES[theme].css_variables().items())


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    names = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{names}</tr></thead><tbody>{lines}</tbody></table></div>'


def _image(figure: Figure, name: str) -> str:
    out = io.BytesIO()
    figure.savefig(out, format="png")
    data = base64.b64encode(out.getvalue()).decode()
    return f'<p><img alt="{escape(name)}" src="data:image/png;base64,{data}"></p>'


Ours = Sequence[tuple[Mapping[str, Any], Path]]


def _loss(task: str, ours: Ours) -> Figure | None:
    history: dict[str, list[tuple[int, float]]] = {}
    for result, folder in ours:
        metrics = read_step_records(folder / run_folder.METRICS)
        values = [
            (record["step"], float(record["loss/train/total"]))
            for record in metrics.rows
            if isinstance(record.get("loss/train/total"), (int, float))
        ]
        if values:
            history[f"seed {result['seed']}"] = values
    return curves(history, f"{task}: training loss (nats)", window=21) if history else None


def _scores(task: str, ours: Ours) -> Figure | None:
    history: History = {
        f"seed {result['seed']}": [(each["epoch"], each["scores"]["accuracy"]) for each in result["history"]]
        for result, _ in ours
        if result["history"]
    }
    guess = ours[0][0]["majority"]["valid"]["accuracy"]
    if not history:
        return None
    return curves(history, f"{task}: validation accuracy by epoch (dashed: majority class)", chance=guess)


def _weights(result: Mapping[str, Any]) -> Figure | None:
    before, after = result["layer_weights"]["before"], result["layer_weights"]["after"]
    if not before:
        return None
    figure = small_multiples([(0, before), (1, after)], f"What each layer reads, seed {result['seed']}", 2)
    for axes, name in zip(figure.axes, ("before fine-tuning", "after fine-tuning")):
        axes.set_title(literal(name), fontsize=9)
    return figure
