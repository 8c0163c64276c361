"""What a run folder tells about a model: data, recipe, words and tokens seen, scores."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from elc_composer.common import run_folder
from elc_composer.common.errors import DataError
from elc_composer.common.json_files import read_object
from elc_composer.prepared.layout import MANIFEST
from elc_composer.report.manifests import read_manifests
from elc_composer.report.pair_accuracies import set_labels
from elc_composer.report.run_reader import RunFolder, read_config, read_run
from elc_composer.report.series import Series

DEV_LOSS = "metrics/dev/LanguageCrossEntropy"


@dataclass(frozen=True)
class Corpus:
    """One corpus of the training split: words and sentences of its raw text."""

    name: str
    words: int
    sentences: int


@dataclass(frozen=True)
class Score:
    """One score and the step at which it was measured."""

    name: str
    value: float
    step: int


@dataclass(frozen=True)
class RunFacts:
    """What is known of one checkpoint of a run; everything may be missing."""

    name: str = ""
    step: int | None = None
    corpora: list[Corpus] = field(default_factory=list)
    data_notes: list[str] = field(default_factory=list)
    recipe: dict[str, str] = field(default_factory=dict)
    words: float | None = None
    tokens: int | None = None
    scores: list[Score] = field(default_factory=list)


def read_facts(folder: Path, step: int | None) -> RunFacts:
    """The facts of the checkpoint of a run after `step` steps.

    Args:
        folder: a run folder; files that are missing in it leave facts out.
        step: the checkpoint's step; None if its name does not tell.

    Raises:
        DataError: config.yaml or metrics.jsonl exists but cannot be read.
    """
    config, _ = read_config(folder / run_folder.CONFIG)
    metadata = _metadata(folder)
    corpora, notes = data_facts(config, metadata)
    run = read_run(folder) if (folder / run_folder.METRICS).exists() else None
    return RunFacts(
        name=str(config.get("run_name") or folder.resolve().name),
        step=step,
        corpora=corpora,
        data_notes=notes,
        recipe=recipe(config, metadata),
        # The record of step n is written while step n is under way: its words include that step's, its tokens do not.
        words=_at(run, "data/words", step - 1) if step else None,
        tokens=int(tokens) if step and (tokens := _at(run, "time/token", step)) else None,
        scores=scores(run, step) if run and step else [],
    )


def data_facts(config: Mapping[str, Any], metadata: Mapping[str, Any]) -> tuple[list[Corpus], list[str]]:
    """Corpora of the training split, and a note on each stream whose manifest is not the one that the run recorded."""
    recorded = {
        entry.get("stream"): entry.get("manifest_sha256")
        for entry in metadata.get("data") or []
        if isinstance(entry, Mapping)
    }
    section = config.get("data")
    split = str(section.get("train_split") or "train") if isinstance(section, Mapping) else "train"
    corpora: dict[str, Corpus] = {}
    notes = []
    for manifest in read_manifests(config):
        wanted = recorded.get(manifest.location)
        name = Path(manifest.location).name
        if manifest.problem:
            notes.append(f"Stream {name}: its manifest was not readable when this card was written{_hash(wanted)}.")
            continue
        if wanted and _sha256(Path(manifest.location) / MANIFEST) != wanted:
            notes.append(f"Stream {name}: its manifest has changed since the run{_hash(wanted)}.")
            continue
        if wanted:
            notes.append(f"Stream {name}: prepared with streaming_prep, sha256 of its manifest {wanted}.")
        for source in manifest.content.get("sources") or []:
            if source.get("split") == split and isinstance(source.get("words"), int):
                key = str(source.get("corpus") or source.get("file"))
                before = corpora.get(key, Corpus(key, 0, 0))
                sentences = before.sentences + int(source.get("sentences") or 0)
                corpora[key] = Corpus(key, before.words + source["words"], sentences)
    return list(corpora.values()), notes


def recipe(config: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, str]:
    """Setting -> value, as far as config.yaml and metadata.json tell."""

    def get(*path: str) -> Any:
        found: Any = config
        for key in path:
            found = found.get(key) if isinstance(found, Mapping) else None
        return found

    found: dict[str, str] = {}

    def add(name: str, value: Any, text: str = "{}") -> None:
        if value is not None:
            found[name] = text.format(value)

    add("steps of the whole run", get("max_steps"), "{:,}")
    stages = get("stages")
    for number, stage in enumerate(stages if isinstance(stages, list) else [], start=1):
        name = f"stage {number}" if len(stages) > 1 else "sequences"
        size, length = stage.get("global_train_batch_size"), stage.get("seq_length")
        share = f", {stage['fraction']:.0%} of the steps" if len(stages) > 1 and "fraction" in stage else ""
        found[name] = f"{size} sequences of {length} tokens a step{share}"
    add("optimizer", get("optimizer", "name"))
    add("learning rate", get("optimizer", "lr"))
    add("weight decay", get("optimizer", "weight_decay"))
    add("betas", get("optimizer", "betas"))
    add("schedule", get("schedule", "name"))
    add("warm-up", get("schedule", "warmup_steps"), "{} steps")
    if get("schedule", "warmup_steps") is None:
        add("warm-up", get("schedule", "warmup_fraction"), "{} of the steps")
    add("gradient clipping", get("gradient_clip_norm"))
    if isinstance(get("masking"), Mapping):
        masking = f"{get('masking', 'strategy')}, {get('masking', 'probability')}"
        final = get("masking", "final_probability")
        found["masking"] = masking + (f" to {final}" if final is not None else "")
    add("label smoothing", get("label_smoothing") or None)
    add("precision", get("precision"))
    add("seed", get("seed"))
    versions = metadata.get("versions")
    if isinstance(versions, Mapping):
        found["versions"] = ", ".join(f"{name} {value}" for name, value in versions.items() if value)
    machine = metadata.get("machine")
    if isinstance(machine, Mapping):
        device = machine.get("gpu") or (f"CPU, {machine['cpus']} cores" if machine.get("cpus") else None)
        add("device", device and f"{device}, {metadata.get('ranks', 1)} rank(s)")
    return found


def scores(run: RunFolder, step: int) -> list[Score]:
    """Dev loss and minimal-pair accuracies (mean over paradigms), each at the newest step after 0 up to `step`."""
    named = {"loss on the dev split (nats a masked token)": DEV_LOSS}
    named |= {
        f"minimal pairs {label}: accuracy, mean over paradigms": f"metrics/{label}/overall"
        for label in set_labels([run])
    }
    found = []
    for name, metric in named.items():
        points = _points(run.metrics.get(metric), step)
        if points and points[-1][0] > 0:
            found.append(Score(name, points[-1][1], points[-1][0]))
    return found


def _points(series: Series | None, last: int) -> list[tuple[int, float]]:
    pairs = zip(series.steps, series.values) if series else []
    return [(at, value) for at, value in pairs if at <= last and value is not None]


def _at(run: RunFolder | None, metric: str, step: int) -> float | None:
    """The newest value up to `step`."""
    points = _points(run.metrics.get(metric), step) if run else []
    return points[-1][1] if points else None


def _metadata(folder: Path) -> dict[str, Any]:
    try:
        return read_object(folder / run_folder.METADATA)
    except DataError:  # from another version, or removed: the card says less
        return {}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _hash(recorded: str | None) -> str:
    return f" (the run recorded the sha256 {recorded})" if recorded else ""
