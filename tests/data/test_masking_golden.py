"""Statistics of span masking against those measured on the published implementation."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from elc_composer.data.masking import IGNORED, MaskingConfig, TokenIds, mask_batch
from elc_composer.data.random import sample_keys
from tests.conftest import require

TOKENS = TokenIds(vocab_size=6144)
LARGEST_EXPERIMENTS, MOST_REPEATS = 400_000, 40
"""Samples drawn for one entry, unless that takes more repetitions than the second number."""
BATCH = 500
STANDARD_ERRORS = 3.0
FEW = 20


def entries(golden_dir: Path) -> list[dict]:
    return json.loads(require(golden_dir / "span_masking_statistics.json").read_text())


def draw(entry: dict, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As many samples as were measured: numbers of text tokens `[N]`, masked ids and labels `[N, T]`."""
    low, high = map(int, re.findall(r"\d+", entry["n_text_tokens"]))
    rng = np.random.default_rng(seed)
    n, length = entry["samples"], entry["seq_length"]
    sizes = rng.integers(low, high + 1, n)
    column = np.arange(length)[None]
    ids = np.where(
        column <= sizes[:, None], rng.integers(TOKENS.first_maskable, TOKENS.vocab_size, (n, length)), TOKENS.pad_id
    )
    ids[:, 0] = TOKENS.cls_id
    ids[np.arange(n), sizes + 1] = TOKENS.sep_id
    keys, probability = sample_keys(seed, np.zeros(n), np.arange(n)), np.full(n, entry["mask_p"])
    parts = [
        mask_batch(ids[i : i + BATCH], keys[i : i + BATCH], probability[i : i + BATCH], MaskingConfig(), TOKENS)
        for i in range(0, n, BATCH)
    ]
    return sizes, np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def figures(entry: dict, sizes: np.ndarray, masked_ids: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The measured figures by name; run lengths with few cases are pooled."""
    chosen = labels != IGNORED
    length = entry["seq_length"]
    is_text = (np.arange(length)[None] >= 1) & (np.arange(length)[None] <= sizes[:, None])
    fraction = chosen.sum(1) / sizes
    low, median, high = np.percentile(fraction, (5, 50, 95))
    edges = np.diff(np.pad(chosen, ((0, 0), (1, 1))).astype(np.int8).ravel())
    runs = np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)
    share = np.bincount(runs, minlength=length) / len(runs)
    by_mask = (masked_ids == TOKENS.mask_id)[chosen].mean()
    kept = (masked_ids == labels)[chosen].mean()

    def at(columns: slice) -> float:
        return float(chosen[:, columns][is_text[:, columns]].mean())

    found = {
        "fraction mean": fraction.mean(),
        "fraction std": fraction.std(),
        "fraction 5 %": low,
        "fraction 50 %": median,
        "fraction 95 %": high,
        "mean run": runs.mean(),
        "mask": by_mask,
        "keep": kept,
        "random": 1 - by_mask - kept,
        "position mid": at(slice(length // 2 - 5, length // 2 + 5)),
        "position third_last": at(slice(length - 4, length - 3)),
        "position last_text_position_of_a_full_segment": at(slice(length - 2, length - 1)),
        **{f"position {i}": at(slice(i, i + 1)) for i in (1, 2, 3)},
    }
    common, rare = split_runs(entry)
    return found | {f"run {i}": share[i] for i in common} | {f"run {rare} or more": share[rare:].sum()}


def split_runs(entry: dict) -> tuple[list[int], int]:
    """Run lengths compared one by one, and the first length that has fewer than FEW measured runs."""
    lengths = {int(k): v for k, v in entry["run_length_distribution"].items()}
    text_tokens = np.mean([int(n) for n in re.findall(r"\d+", entry["n_text_tokens"])])
    runs = entry["samples"] * text_tokens * entry["masked_fraction_mean"] / entry["mean_run_length"]
    rare = min((k for k, v in lengths.items() if v * runs < FEW), default=max(lengths) + 1)
    return [k for k in lengths if k < rare], rare


def golden_figures(entry: dict) -> dict[str, float]:
    low, median, high = entry["masked_fraction_percentiles_5_50_95"]
    common, rare = split_runs(entry)
    runs = {int(k): v for k, v in entry["run_length_distribution"].items()}
    return {
        "fraction mean": entry["masked_fraction_mean"],
        "fraction std": entry["masked_fraction_std"],
        "fraction 5 %": low,
        "fraction 50 %": median,
        "fraction 95 %": high,
        "mean run": entry["mean_run_length"],
        **entry["replacement_fractions"],
        **{f"position {k}": v for k, v in entry["masked_probability_by_position"].items()},
        **{f"run {k}": runs[k] for k in common},
        f"run {rare} or more": sum(v for k, v in runs.items() if k >= rare),
    }


@pytest.mark.golden
def test_every_figure_is_within_three_standard_errors(golden_dir: Path) -> None:
    """The standard error of a figure is its standard deviation over repeated experiments of the measured size.

    (Masked tokens of one sample are correlated, so a formula for independent draws gives too small an error.) Each
    figure is compared with the mean of the repetitions, whose own uncertainty is added.
    """
    off = {}
    for number, entry in enumerate(entries(golden_dir)):
        name = f"{entry['seq_length']} tokens, {entry['mask_p']}"
        measured = golden_figures(entry)
        count = min(LARGEST_EXPERIMENTS // entry["samples"], MOST_REPEATS)
        repeats = [figures(entry, *draw(entry, seed=100 * number + i)) for i in range(count)]
        assert measured.keys() == repeats[0].keys()
        for figure, value in measured.items():
            ours = np.array([repeat[figure] for repeat in repeats])
            error = ours.std(ddof=1) * np.sqrt(1 + 1 / count)
            deviation = (value - ours.mean()) / error
            print(f"{name}: {figure}: measured {value:.5f}, here {ours.mean():.5f}, {deviation:+.2f} standard errors")
            # Written so that NaN counts as a failure.
            if not abs(deviation) <= STANDARD_ERRORS:
                off[f"{name}: {figure}"] = deviation
    assert not off
