"""Layer weights of a finished model: reading them, comparing them, and pruning the small ones."""

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
    """Layer label (`1`, `2`, ..., `head`) -> its weights `[sources]` before the softmax; empty for variants without."""
    found = {name: parameter for name, parameter in model.named_parameters() if name.split(".")[-1] == NAME}
    return {label: found[name] for name, label in layer_labels(found).items()}


def layer_shares(model: nn.Module) -> dict[str, list[float]]:
    """Layer label -> shares of its sources, which sum to 1."""
    return {label: _softmax(weights) for label, weights in weight_vectors(model).items()}


def kept_sources(shares: Sequence[float], threshold: float) -> list[bool]:
    """Which sources stay: those of at least `threshold`, and always the largest (of equals the first)."""
    largest = max(range(len(shares)), key=lambda source: shares[source])
    return [share >= threshold or source == largest for source, share in enumerate(shares)]


def pruned(model: nn.Module, threshold: float, layers: Sequence[str] | None = None) -> nn.Module:
    """A copy of the model in which sources with a share below `threshold` are read no more.

    Their weights become -inf, so that their share is zero exactly and the others keep their proportions and sum to 1.

    Args:
        model: with layer weights; stays as it is.
        threshold: between 0 and 1.
        layers: labels of the layers to prune; None prunes all, and the head's mix where the variant has one.
    """
    result = copy.deepcopy(model)
    for label, weights in weight_vectors(result).items():
        if layers is None or label in layers:
            drop_small(weights, threshold)
    return result


@torch.no_grad()
def drop_small(weights: Tensor, threshold: float) -> None:
    """Put -inf in place of weights whose softmax share is below `threshold`; `weights` `[sources]` is changed."""
    kept = torch.tensor(kept_sources(_softmax(weights), threshold), device=weights.device)
    weights.masked_fill_(~kept, -math.inf)


def count_pruned(shares: Shares, threshold: float, layers: Sequence[str] | None = None) -> tuple[int, float]:
    """How many sources `pruned` takes away, and the largest share that a layer loses by it."""
    number, largest = 0, 0.0
    for label, row in shares.items():
        if layers is None or label in layers:
            gone = [share for share, stays in zip(row, kept_sources(row, threshold)) if not stays]
            number, largest = number + len(gone), max(largest, sum(gone))
    return number, largest


def describe_shares(shares: Shares) -> dict[str, dict[str, float]]:
    """For each layer: entropy (nats), mean source, share of the embedding and of the layer before, largest source."""
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
    """Total variation distance (0 to 1) of each layer that both have with as many sources."""
    return {
        label: sum(abs(a - b) for a, b in zip(row, other[label])) / 2
        for label, row in one.items()
        if label in other and len(other[label]) == len(row)
    }


def _softmax(weights: Tensor) -> list[float]:
    return weights.detach().double().softmax(0).tolist()
