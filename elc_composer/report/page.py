"""Builds the HTML page: one file with all data, figures, styles and scripts, without network access."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import plotly.offline
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from elc_composer.common.files import atomic_file
from elc_composer.report.charts import Chart, small_charts
from elc_composer.report.distributions import FIGURES, distribution_charts, histograms
from elc_composer.report.events import Event, find_events
from elc_composer.report.layer_history import frames, mixed_history, weight_history
from elc_composer.report.line_figures import line_figure
from elc_composer.report.pair_accuracies import accuracy_charts, accuracy_grids
from elc_composer.report.run_reader import RunFolder
from elc_composer.report.sections import HINTS, NOTES, TITLES
from elc_composer.report.slider_figures import heatmap_layout, histogram_layout
from elc_composer.report.summaries import config_differences, data_folders, events_table, overview, show
from elc_composer.report.theme import THEMES
from elc_composer.report.training_charts import training_charts

SCRIPTS = ("tools.js", "charts.js", "slider.js", "page.js")
HEATMAP_NUMBERS, HISTOGRAM_NUMBERS = 100_000, 80_000
"""Shares and counts that a page keeps in all, so that it stays small."""


@dataclass
class Section:
    """A section of the page with the charts in it."""

    key: str
    title: str
    note: str
    hints: list[tuple[str, str]]
    """(run, what to switch on) for each run without data for this section."""
    large: list[Chart] = field(default_factory=list)
    small: list[Chart] = field(default_factory=list)


def all_charts(runs: Sequence[RunFolder]) -> list[Chart]:
    """Every line chart of the page, with unique ids of letters, digits, `_`, `.` and `-`."""
    norms = {}
    for run in runs:
        for name in run.metrics:
            if name.startswith("mixed_input/") and name.endswith("/norm") and name.count("/") == 2:
                norms[name] = f"{name.split('/')[1].replace('_', ' ')}: norm of the input"
    charts = training_charts(runs) + small_charts(runs, "mixed", norms, "L2 norm")
    charts += accuracy_charts(runs) + distribution_charts(runs)
    taken: set[str] = set()
    for chart in charts:
        plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", chart.id)
        chart.id = plain if plain not in taken else f"{plain}-{len(taken)}"
        taken.add(chart.id)
    return charts


def page_data(runs: Sequence[RunFolder], charts: Sequence[Chart], events: Sequence[Sequence[Event]]) -> dict[str, Any]:
    """Everything that the page's script draws, as JSON values."""
    several = len(runs) > 1
    return {
        "runs": [{"name": run.name, "step": run.step} for run in runs],
        "themes": {name: theme.for_page() for name, theme in THEMES.items()},
        "charts": {
            chart.id: {"title": chart.title, "small": chart.small, **line_figure(chart, events, several)}
            for chart in charts
        },
        "heatmaps": {
            "weights": _heatmaps([weight_history(run) for run in runs]),
            "mixed": _heatmaps([mixed_history(run) for run in runs]),
        },
        "histograms": [histograms(run, HISTOGRAM_NUMBERS // len(runs)) for run in runs],
        "histogramLayout": histogram_layout(),
    }


def _heatmaps(histories: Sequence[Any]) -> list[dict[str, Any] | None]:
    found: list[dict[str, Any] | None] = []
    for history in histories:
        entry = frames(history, HEATMAP_NUMBERS // len(histories))
        if entry is not None:
            sources = max((len(shares) for frame in entry["frames"] for shares in frame), default=0)
            entry |= {"sources": sources, "layout": heatmap_layout(entry["labels"], sources)}
        found.append(entry)
    return found


def sections_of(runs: Sequence[RunFolder], charts: Sequence[Chart], data: dict[str, Any]) -> list[Section]:
    """All sections in the order of the page."""
    sections = []
    for key, title in TITLES.items():
        own = [chart for chart in charts if chart.section == key]
        drawn = {line.run for chart in own for line in chart.lines}
        drawn |= {number for number, entry in enumerate(data["heatmaps"].get(key, [])) if entry}
        missing = [run.name for number, run in enumerate(runs) if number not in drawn] if key in HINTS else []
        section = Section(key, title, NOTES.get(key, ""), [(name, HINTS[key]) for name in missing])
        for chart in own:
            (section.small if chart.small else section.large).append(chart)
        sections.append(section)
    return sections


def render(runs: Sequence[RunFolder]) -> str:
    """The page of these runs as HTML."""
    events = [find_events(run) for run in runs]
    charts = all_charts(runs)
    data = page_data(runs, charts, events)
    folder = files("elc_composer.report") / "templates"
    units = [unit for entry in data["histograms"] if entry for unit in entry["units"]]
    return (
        _environment()
        .get_template("page.html")
        .render(
            runs=runs,
            written=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            sections=sections_of(runs, charts, data),
            figures={key: title for key, (title, _) in FIGURES.items() if any(chart.figure == key for chart in charts)},
            units=list(dict.fromkeys(units)),
            grids=accuracy_grids(runs),
            overview=overview(runs),
            differences=config_differences(runs),
            data_folders=data_folders(runs),
            events=events_table(runs, events),
            data=data,
            themes=THEMES,
            style=Markup((folder / "style.css").read_text(encoding="utf-8")),
            plotly=Markup(plotly.offline.get_plotlyjs()),
            script=Markup("\n".join((folder / name).read_text(encoding="utf-8") for name in SCRIPTS)),
        )
    )


def write_page(runs: Sequence[RunFolder], path: Path) -> Path:
    """Write the page atomically."""
    with atomic_file(path) as file:
        file.write(render(runs).encode("utf-8", "replace"))
    return path


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("elc_composer.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["show"] = show
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return environment
