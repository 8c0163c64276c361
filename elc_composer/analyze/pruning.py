"""Reads, compares and prunes the layer weights of a finished model."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from elc_composer.common.module_names import layer_labels

NAME = "prev_layer_weights"
Shares = Mapping[str, list[float]]


def weight_vectors(model: nn.Module) -> dict[str, nn.Parameter]:
    """Layer label (`1`, `2`, ..., `head`) -> its weights before the softmax, `[sources]`; may be empty."""
    found = {name: parameter for name, parameter in model.named_parameters() if name.split(".")[-1] == NAME}
    return {label: found[name] for name, label in layer_labels(found).items()}


def shares_by_layer(model: nn.Module) -> dict[str, list[float]]:
    """Layer label -> shares of its sources, which sum to 1."""
    return {label: _softmax(weights) for label, weights in weight_vectors(model).items()}


def kept_sources(shares: Sequence[float], threshold: float) -> list[bool]:
    """True for each source that stays: shares of at least `threshold`, and the largest (the first of equal ones)."""
    largest = max(range(len(shares)), key=lambda source: shares[source])
    return [share >= threshold or source == largest for source, share in enumerate(shares)]


def pruned(model: nn.Module, threshold: float, layers: Sequence[str] | None = None) -> nn.Module:
    """A copy of the model that does not read sources with a share below `threshold`.

    Their weights become -inf: their shares are exactly zero, the others keep their proportions and sum to 1.

    Args:
        model: a model with layer weights; it is not changed.
        threshold: between 0 and 1.
        layers: labels of the layers to prune; None prunes all, and the head's mix if the variant has one.
    """
    result = copy.deepcopy(model)
    for label, weights in weight_vectors(result).items():
        if layers is None or label in layers:
            drop_small(weights, threshold)
    return result


@torch.no_grad()
def drop_small(weights: Tensor, threshold: float) -> None:
    """Set weights whose softmax share is below `threshold` to -inf, in place; `weights` is `[sources]`."""
    kept = torch.tensor(kept_sources(_softmax(weights), threshold), device=weights.device)
    weights.masked_fill_(~kept, -math.inf)


def count_pruned(shares: Shares, threshold: float, layers: Sequence[str] | None = None) -> tuple[int, float]:
    """Number of sources that `pruned` removes, and the largest share that a layer loses."""
    number, largest = 0, 0.0
    for label, row in shares.items():
        if layers is None or label in layers:
            gone = [share for share, stays in zip(row, kept_sources(row, threshold)) if not stays]
            number, largest = number + len(gone), max(largest, sum(gone))
    return number, largest


def describe_shares(shares: Shares) -> dict[str, dict[str, float]]:
    """For each layer: entropy (nats), mean source, share of the embedding and of the previous layer, largest source."""
    found = {}
    for label, row in shares.items():
        found[label] = {
            "entropy": sum(share * math.log(1 / share) for share in row if share > 0),
            "expected_source": sum(source * share for source, share in enumerate(row)),
            "embedding_share": row[0],
            "previous_share": row[-1],
            "largest_source": row.index(max(row)),
        }
    return found


def distance(one: Shares, other: Shares) -> dict[str, float]:
    """Total variation distance (0 to 1) of each layer that has equally many sources in both models."""
    return {
        label: sum(abs(a - b) for a, b in zip(row, other[label])) / 2
        for label, row in one.items()
        if label in other and len(other[label]) == len(row)
    }


def _softmax(weights: Tensor) -> list[float]:
    return weights.detach().double().softmax(0).tolist()
