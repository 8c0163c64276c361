"""Tables of the page: overview, config, data and events."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from elc_composer.report.events import Event
from elc_composer.report.manifests import Manifest
from elc_composer.report.pair_accuracies import set_labels
from elc_composer.report.run_reader import RunFolder
from elc_composer.report.series import Series
from elc_composer.report.step_records import is_step
from elc_composer.report.training_charts import DEV_ACCURACY, DEV_LOSS, TOKENS_PER_SECOND, TRAIN_LOSS

Cell = str | float | int | None
END_STATES = {"finished": "finished", "preempted": "pre-empted", "stopped": "stopped by a bad loss"}
"""Name of the last event -> state of the run."""


@dataclass
class Table:
    """A table whose first column names the rows."""

    head: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""


@dataclass
class DataFolder:
    """Prepared data, the runs that read them, and tables of their manifest."""

    location: str
    runs: list[str]
    problem: str
    tables: list[Table] = field(default_factory=list)


def show(value: Any) -> str:
    """A cell's text; empty for None."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def overview(runs: Sequence[RunFolder]) -> Table:
    """One column for each run, one row for each fact that any of them has."""
    facts = [dict(_facts(run)) for run in runs]
    names = dict.fromkeys(name for each in facts for name in each)
    return Table(["", *(run.name for run in runs)], [[name, *(each.get(name) for each in facts)] for name in names])


def _facts(run: RunFolder) -> Iterator[tuple[str, Cell]]:
    planned = run.get("max_steps")
    planned = planned if is_step(planned) else None
    yield "state", _state(run, planned)
    yield "steps", run.step if planned is None else f"{run.step:,} of {planned:,}"
    yield "last written", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(run.written))
    yield "layer mixing", show(run.get("model", "layer_mixing"))
    sizes = [run.get("model", key) for key in ("num_hidden_layers", "hidden_size", "vocab_size")]
    if None not in sizes:
        yield "model", "{} layers, width {}, vocabulary {}".format(*(show(size) for size in sizes))
    yield from _newest(run, "train loss (mean of the last 50)", TRAIN_LOSS, last=50)
    yield from _newest(run, "dev loss", DEV_LOSS)
    yield from _newest(run, "accuracy on masked dev tokens", DEV_ACCURACY)
    for label in set_labels([run]):
        yield from _newest(run, f"minimal pairs, {label} (overall)", f"metrics/{label}/overall")
    tokens = run.metrics.get("time/token", Series()).last()
    if tokens:
        yield "tokens read", int(tokens)
    hours = run.metrics.get("time/total", Series()).last()
    if hours is not None:
        yield "time", f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.1f} min"
    rates = sorted(value for value in run.metrics.get(TOKENS_PER_SECOND, Series()).values if value)
    if rates:
        yield "tokens per second (median)", round(rates[len(rates) // 2])
    yield "folder", str(run.folder)


def _state(run: RunFolder, planned: int | None) -> str:
    # checkpoints are still being saved in the background after the last event
    names = [event.name for event in run.events if event.name != "saved"]
    if names and names[-1] in END_STATES:
        return END_STATES[names[-1]]
    return "finished" if planned is not None and run.step >= planned else "not finished"


def _newest(run: RunFolder, name: str, metric: str, last: int = 1) -> Iterator[tuple[str, Cell]]:
    values = [value for value in run.metrics.get(metric, Series()).values if value is not None][-last:]
    if values:
        yield name, f"{sum(values) / len(values):.4f}"


def flat(config: Any) -> dict[str, str]:
    """A nested config as `a.b.0.c` -> value, in the order of the config."""
    found: dict[str, str] = {}
    waiting: list[tuple[str, Any]] = [("", config)]
    while waiting:  # without recursion: a config may be nested deeper than Python's recursion limit allows
        path, value = waiting.pop()
        entries: Sequence[tuple[Any, Any]] = []
        if isinstance(value, Mapping):
            entries = list(value.items())
        elif isinstance(value, list):
            entries = list(enumerate(value))
        for key, entry in reversed(entries):
            waiting.append((f"{path}.{key}" if path else str(key), entry))
        if not entries:
            found[path] = "null" if value is None else str(value)
    return found


def config_differences(runs: Sequence[RunFolder]) -> Table:
    """Keys whose values differ between the runs."""
    flats = [flat(run.config) for run in runs]
    rows = []
    for key in sorted({key for each in flats for key in each}):
        values = [each.get(key) for each in flats]
        if len(set(values)) > 1:
            rows.append([key, *values])
    return Table(["key", *(run.name for run in runs)], rows, "Keys that differ")


def data_folders(runs: Sequence[RunFolder]) -> list[DataFolder]:
    """The prepared data of all runs; data that several runs read are listed once."""
    found: dict[str, DataFolder] = {}
    for run in runs:
        for manifest in run.manifests:
            if manifest.location not in found:
                found[manifest.location] = DataFolder(manifest.location, [], manifest.problem, _manifest(manifest))
            if run.name not in found[manifest.location].runs:
                found[manifest.location].runs.append(run.name)
    return list(found.values())


def _manifest(manifest: Manifest) -> list[Table]:
    if manifest.problem:
        return []
    content = manifest.content
    keys = ("samples", "tokens", "utilisation", "duplication", "column_dtype")
    segments = []
    for name, entry in (content.get("outputs") or {}).items():
        segments.append([name, *(entry.get(key) for key in keys), len(entry.get("shards", []))])
    keys_of_sources = ("corpus", "split", "words", "sentences", "bytes")
    sources = [[source.get(key) for key in keys_of_sources] for source in content.get("sources") or []]
    entries = show((content.get("tokenizer") or {}).get("vocab_size"))
    settings = {"tokenizer": f"{entries} entries", **flat(content.get("settings") or {})}
    return [
        Table(["segments", *keys, "shards"], segments, "Prepared segments"),
        Table(keys_of_sources, sources, f"Sources ({len(sources)})"),
        Table(["setting", "value"], list(settings.items()), "Tokenizer and settings"),
    ]


def events_table(runs: Sequence[RunFolder], events: Sequence[Sequence[Event]]) -> Table:
    """All runs' events in the order of their steps."""
    several = len(runs) > 1
    rows = []
    for run, found in zip(runs, events):
        for event in found:
            rows.append([event.step, *([run.name] if several else []), event.kind, event.text])
    return Table(["step", *(["run"] if several else []), "kind", "event"], sorted(rows, key=lambda row: row[0]))
