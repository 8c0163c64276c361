"""Parses a report page for the tests: ids, addresses, embedded data, sections, events."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import plotly.offline

from elc_composer.report.events import find_events
from elc_composer.report.run_reader import RunFolder


class Page(HTMLParser):
    """Section ids, links, sources and the embedded data of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.scripts = 0
        self.inside = ""
        self.data: Any = None
        self.feed(without_plotly(text))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids += [str(values["id"])] if "id" in values else []
        self.addresses += [str(values[key]) for key in ("src", "href") if key in values]
        self.scripts += tag == "script"
        self.inside = "data" if values.get("id") == "report-data" else ""

    def handle_data(self, data: str) -> None:
        if self.inside == "data":
            self.data, self.inside = json.loads(data), ""

    def charts_of(self, section: str) -> list[str]:
        """Ids of the charts whose id starts with the section's key."""
        return [id for id in self.data["charts"] if id.startswith(section)]

    def curves(self, chart: str) -> list[dict[str, Any]]:
        """A chart's curves without its event marks and bands."""
        return [trace for trace in self.data["charts"][chart]["data"] if "label" in trace["meta"]]


def without_plotly(text: str) -> str:
    """The page without Plotly's own script."""
    return text.replace(plotly.offline.get_plotlyjs(), "")


def section(text: str, name: str) -> str:
    """The HTML of a section."""
    found = re.search(rf'<section id="{name}">.*?</section>', text, re.DOTALL)
    assert found
    return found[0]


def events_of(run: RunFolder, kind: str) -> list[tuple[int, str]]:
    """(step, text) of a run's events of a kind."""
    return [(event.step, event.text) for event in find_events(run) if event.kind == kind]
