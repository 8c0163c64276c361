"""The parts of the page that are plain HTML: overview, config, data, events."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from elc_composer.report.events import Event
from elc_composer.report.files import RunFolder, Series
from elc_composer.report.pairs import labels

Cell = str | float | int | None


def show(value: Any) -> str:
    """A value as text in a cell; empty where there is none."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def table(head: Sequence[str], rows: Sequence[Sequence[Any]], caption: str = "") -> str:
    """An HTML table whose first column names the rows; it scrolls by itself where it is too wide."""
    columns = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    lines = []
    for first, *others in rows:
        cells = "".join(f"<td>{escape(show(value))}</td>" for value in others)
        lines.append(f'<tr><th scope="row">{escape(show(first))}</th>{cells}</tr>')
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    body = "".join(lines)
    return f'<div class="scroll"><table>{title}<thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table></div>'


def overview(runs: Sequence[RunFolder]) -> str:
    """One column a run, one row a fact that any of them has."""
    facts = [dict(_facts(run)) for run in runs]
    names = dict.fromkeys(name for each in facts for name in each)
    rows = [[name, *(each.get(name) for each in facts)] for name in names]
    return table(["", *(run.name for run in runs)], rows)


def _facts(run: RunFolder) -> Iterator[tuple[str, Cell]]:
    planned = run.get("max_steps")
    yield "state", _state(run, isinstance(planned, int) and run.step >= planned)
    yield "steps", f"{run.step:,} of {planned:,}" if isinstance(planned, int) else run.step
    yield "last written", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(run.written))
    yield "layer mixing", run.get("model", "layer_mixing")
    sizes = [run.get("model", key) for key in ("num_hidden_layers", "hidden_size", "vocab_size")]
    if None not in sizes:
        yield "model", "{} layers, width {}, vocabulary {}".format(*map(show, sizes))
    yield from _newest(run, "train loss (mean of the last 50)", "loss/train/total", last=50)
    yield from _newest(run, "dev loss", "metrics/dev/LanguageCrossEntropy")
    yield from _newest(run, "accuracy on masked dev tokens", "metrics/dev/MaskedAccuracy")
    for label in labels(run):
        yield from _newest(run, f"minimal pairs, {label} (overall)", f"metrics/{label}/overall")
    tokens = run.metrics.get("time/token", Series()).last()
    if tokens:
        yield "tokens read", int(tokens)
    hours = run.metrics.get("time/total", Series()).last()
    if hours is not None:
        yield "time", f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.1f} min"
    rates = sorted(value for value in run.metrics.get("throughput/tokens_per_sec", Series()).values if value)
    if rates:
        yield "tokens a second (median)", round(rates[len(rates) // 2])
    yield "folder", str(run.folder)


def _state(run: RunFolder, done: bool) -> str:
    ends = {"finished": "finished", "preempted": "pre-empted", "stopped": "stopped by a bad loss"}
    # saving goes on in the background when all else is over
    last = next((line["event"] for line in reversed(run.events) if line["event"] != "saved"), "")
    return ends.get(last, "finished" if done else "not finished")


def _newest(run: RunFolder, name: str, metric: str, last: int = 1) -> Iterator[tuple[str, Cell]]:
    values = [value for value in run.metrics.get(metric, Series()).values if value is not None][-last:]
    if values:
        yield name, f"{sum(values) / len(values):.4f}"


def flat(config: Any, path: str = "") -> dict[str, str]:
    """A nested config as `a.b.0.c` -> value."""
    entries: Sequence[tuple[Any, Any]]
    if isinstance(config, Mapping) and config:
        entries = list(config.items())
    elif isinstance(config, list) and config:
        entries = list(enumerate(config))
    else:
        return {path: "null" if config is None else str(config)}
    return {k: v for key, value in entries for k, v in flat(value, f"{path}.{key}" if path else str(key)).items()}


def config_section(runs: Sequence[RunFolder]) -> str:
    """Where configs differ, and each whole one to unfold."""
    parts = []
    if len(runs) > 1:
        flats = [flat(run.config) for run in runs]
        keys = sorted({key for each in flats for key in each})
        rows = [[key, *(each.get(key, "") for each in flats)] for key in keys if len({e.get(key) for e in flats}) > 1]
        head = ["key", *(run.name for run in runs)]
        parts.append(table(head, rows, "Keys that differ") if rows else "<p>The configs are the same.</p>")
    for run in runs:
        text = escape(run.config_text) if run.config_text else "config.yaml is not in the folder"
        parts.append(f"<details><summary>Config of {escape(run.name)}</summary><pre>{text}</pre></details>")
    return "".join(parts)


def data_section(runs: Sequence[RunFolder]) -> str:
    """What the prepared data were made of and hold; the same data of several runs once."""
    named: dict[str, tuple[Any, list[str]]] = {}
    for run in runs:
        for where, manifest in run.manifests:
            named.setdefault(where, (manifest, []))[1].append(run.name)
    if not named:
        return '<p class="hint">config.yaml names no data (data.streams).</p>'
    parts = []
    for where, (manifest, users) in named.items():
        parts.append(f"<h3>{escape(where)}</h3><p>Read by {escape(', '.join(users))}.</p>")
        if manifest is None:
            parts.append('<p class="hint">Its manifest.json is not to be found from here (remote, or moved).</p>')
        else:
            parts.append(_manifest(manifest))
    return "".join(parts)


def _manifest(manifest: Mapping[str, Any]) -> str:
    outputs = manifest.get("outputs") or {}
    keys = ("samples", "tokens", "utilisation", "duplication", "column_dtype")
    rows = [[name, *(entry.get(key) for key in keys), len(entry.get("shards", []))] for name, entry in outputs.items()]
    parts = [table(["segments", *keys, "shards"], rows, "Prepared segments")]
    sources = manifest.get("sources") or []
    rows = [[s.get("corpus"), s.get("split"), s.get("words"), s.get("sentences"), s.get("bytes")] for s in sources]
    head = ["corpus", "split", "words", "sentences", "bytes"]
    parts.append(f"<details><summary>Sources ({len(rows)})</summary>{table(head, rows)}</details>")
    tokenizer = manifest.get("tokenizer") or {}
    settings = {"tokenizer": f"{show(tokenizer.get('vocab_size'))} entries", **flat(manifest.get("settings") or {})}
    shown = table(["setting", "value"], list(settings.items()))
    parts.append(f"<details><summary>Tokenizer and settings</summary>{shown}</details>")
    return "".join(parts)


def events_section(runs: Sequence[RunFolder], events: Sequence[Sequence[Event]]) -> str:
    """All runs' events in the order of their steps."""
    rows = [
        [event.step, *([run.name] if len(runs) > 1 else []), event.kind, event.text]
        for run, found in zip(runs, events)
        for event in found
    ]
    if not rows:
        return '<p class="hint">Nothing but training.</p>'
    head = ["step", *(["run"] if len(runs) > 1 else []), "kind", "what"]
    return table(head, sorted(rows, key=lambda row: row[0]))
