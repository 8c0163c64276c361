"""The page itself: one HTML file with everything in it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from elc_composer.report.charts import Panel, small_panels, training_panels
from elc_composer.report.distributions import FIGURES, histograms, spread_panels
from elc_composer.report.events import Event, find_events
from elc_composer.report.files import RunFolder
from elc_composer.report.layers import frames, mixed_history, weight_history
from elc_composer.report.pairs import accuracies, labels
from elc_composer.report.static import config_section, data_section, events_section, overview
from elc_composer.report.thin import short, spread_out

SCRIPTS = ("tools.js", "chart.js", "heat.js", "report.js")
SECTIONS = {
    "overview": "Overview",
    "loss": "Loss and accuracy",
    "pairs": "Minimal pairs",
    "weights": "What each layer reads",
    "mixed": "What each layer's input consists of",
    "distributions": "Weights and gradients by part",
    "speed": "Throughput",
    "gradients": "Gradients",
    "learning-rate": "Learning rate",
    "events": "Events",
    "data": "Data",
    "config": "Config",
}
NOTES = {
    "weights": "Row: layer; column: source (emb is the embedding, n the output of layer n); number: the share of the "
    "source in what the layer reads, softmax of its weights.",
    "mixed": "As above, but weight times the mean norm of the source's vectors: what truly arrives.",
    "distributions": "Histograms at the step of the slider; heights are square roots of shares, so that tails show.",
    "pairs": "Share of pairs in which the acceptable sentence scores higher; one half is chance.",
}
HINTS = {
    "loss": "no loss is logged yet.",
    "pairs": "no minimal pairs are scored yet; evaluators.minimal_pairs names sets to score while training.",
    "weights": "no layer_weights.jsonl; callbacks.layer_weight_monitor writes it (on by default), for models with "
    "learned layer weights.",
    "mixed": "no mixed_inputs.jsonl; switch it on with callbacks.mixed_input_monitor.interval=250ba.",
    "distributions": "no weight distributions; switch them on with "
    "callbacks.weight_distribution_monitor.interval=100ba.",
    "speed": "no throughput yet; callbacks.speed_monitor logs it once its window of batches is full.",
    "gradients": "no gradient norms; callbacks.gradient_norm=true logs them at every step (on by default), "
    "callbacks.weight_distribution_monitor.interval=100ba now and then.",
    "learning-rate": "no learning rate; callbacks.lr_monitor=true logs it.",
}


def all_panels(runs: Sequence[RunFolder]) -> list[Panel]:
    """Every line chart of the page."""
    found = training_panels(runs)
    inputs = {
        name: f"{name.split('/')[1].replace('_', ' ')}: norm of the input"
        for run in runs
        for name in run.metrics
        if name.startswith("mixed_input/") and name.endswith("/norm")
    }
    return found + small_panels(runs, "mixed", inputs, "L2 norm") + pair_panels(runs) + spread_panels(runs)


def set_labels(runs: Sequence[RunFolder]) -> list[str]:
    """Sets of minimal pairs of any run."""
    return list(dict.fromkeys(label for run in runs for label in labels(run)))


def pair_panels(runs: Sequence[RunFolder]) -> list[Panel]:
    """For each set a chart of the headline and small ones of its phenomena."""
    found: list[Panel] = []
    style: dict[str, Any] = {"range": (0.0, 1.0), "rule": 0.5}
    for label in set_labels(runs):
        headline = {f"metrics/{label}/overall": f"{label}: mean over paradigms"}
        by_phenomenon = {
            f"metrics/{label}/{entry.name}": f"{label}: {entry.name.replace('_', ' ')}"
            for run in runs
            for entry in accuracies(run, label)
            if entry.kind == "phenomenon"
        }
        overall = small_panels(runs, "pairs", headline, "accuracy", **style)
        for panel in overall:
            panel.small = False
        found += overall + small_panels(runs, "pairs", by_phenomenon, "accuracy", **style)
    return found


def pair_grids(runs: Sequence[RunFolder], columns: int = 16) -> list[dict[str, Any]]:
    """Every paradigm at up to 16 evaluations of each run."""
    grids = []
    for label in set_labels(runs):
        for number, run in enumerate(runs):
            entries = [entry for entry in accuracies(run, label) if entry.kind == "paradigm"]
            if entries:
                steps = spread_out(max((entry.series.steps for entry in entries), key=len), columns)
                rows = []
                for entry in entries:
                    at = dict(zip(entry.series.steps, entry.series.values))
                    values = [short(at.get(step), 4) for step in steps]
                    rows.append({"name": entry.name, "group": entry.group, "values": values})
                grids.append({"label": label, "run": number, "steps": steps, "rows": rows})
    return grids


def payload(runs: Sequence[RunFolder], events: Sequence[Sequence[Event]]) -> dict[str, Any]:
    """Everything that the page's script draws."""
    return {
        "runs": [{"name": run.name, "step": run.step} for run in runs],
        "panels": [panel.plain() for panel in all_panels(runs)],
        "figures": {name: title for name, (title, _) in FIGURES.items()},
        "weights": [frames(weight_history(run), 100_000 // len(runs)) for run in runs],
        "mixed": [frames(mixed_history(run), 100_000 // len(runs)) for run in runs],
        "histograms": [histograms(run, 80_000 // len(runs)) for run in runs],
        "grids": pair_grids(runs),
        "events": [[asdict(event) for event in found if event.kind != "checkpoint"] for found in events],
    }


def embed(value: Any) -> str:
    """JSON that can stand in a script element: no character in it ends the element or opens a comment."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def missing(runs: Sequence[RunFolder], section: str, data: dict[str, Any]) -> list[int]:
    """Numbers of the runs that have nothing for a section of charts."""
    has = {each["run"] for panel in data["panels"] if panel["section"] == section for each in panel["lines"]}
    if section in ("weights", "mixed"):
        has |= {number for number, found in enumerate(data[section]) if found}
    return [number for number in range(len(runs)) if number not in has]


def render(runs: Sequence[RunFolder]) -> str:
    """The page of these runs."""
    events = [find_events(run) for run in runs]
    data = payload(runs, events)
    plain = {
        "overview": overview(runs),
        "config": config_section(runs),
        "data": data_section(runs),
        "events": events_section(runs, events),
    }
    sections = []
    for key, title in SECTIONS.items():
        note = f'<p class="note">{NOTES[key]}</p>' if key in NOTES else ""
        lacking = missing(runs, key, data) if key in HINTS else []
        hints = "".join(f'<p class="hint">{escape(runs[number].name)}: {escape(HINTS[key])}</p>' for number in lacking)
        body = plain.get(key, '<div class="drawn"></div>')
        sections.append(f'<section id="{key}"><h2>{title}</h2>{note}{hints}{body}</section>')
    template = files("elc_composer.report") / "template"
    parts = {
        "title": escape("Training of " + ", ".join(run.name for run in runs)),
        "written": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "style": (template / "style.css").read_text(encoding="utf-8"),
        "links": "".join(f'<a href="#{key}">{title}</a>' for key, title in SECTIONS.items()),
        "sections": "\n".join(sections),
        "data": embed(data),
        "script": "\n".join((template / name).read_text(encoding="utf-8") for name in SCRIPTS),
    }
    page = (template / "page.html").read_text(encoding="utf-8").split("@@")
    # every other piece is the name of a part: what parts contain is never searched for names
    return "".join(parts[piece] if place % 2 else piece for place, piece in enumerate(page))


def write_page(runs: Sequence[RunFolder], path: Path) -> Path:
    """Write the page whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    partial.write_text(render(runs), encoding="utf-8")
    os.replace(partial, path)
    return path
