"""Metrics of classification (torchmetrics), and the majority class that every score is compared with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torchmetrics import Metric
from torchmetrics.classification import BinaryF1Score, MulticlassAccuracy, MulticlassMatthewsCorrCoef


def build_metrics(classes: int) -> dict[str, Metric]:
    """Accuracy and Matthews correlation; with two classes also F1 of class 1. They take predicted classes."""
    metrics: dict[str, Metric] = {
        "accuracy": MulticlassAccuracy(classes, average="micro"),
        "mcc": MulticlassMatthewsCorrCoef(classes),
    }
    return {**metrics, "f1": BinaryF1Score()} if classes == 2 else metrics


def scores(predicted: Sequence[int], labels: Sequence[int], classes: int) -> dict[str, float]:
    """All metrics of `build_metrics` for predicted classes."""
    found = {}
    for name, metric in build_metrics(classes).items():
        metric.update(torch.tensor(predicted), torch.tensor(labels))
        found[name] = float(metric.compute())
    return found


def majority(train_labels: Sequence[int]) -> int:
    """The most frequent class of the training set; of equally frequent ones the smallest."""
    counts = Counter(train_labels)
    return min(counts, key=lambda label: (-counts[label], label))
