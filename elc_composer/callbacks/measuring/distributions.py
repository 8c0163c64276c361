"""Statistics of weights, gradients and updates, from sums that can be added over parameters and ranks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from elc_composer.callbacks.measuring.sampling import Sample

# Columns of the summed table: five moments of the weights, five of the gradients, two sums of the update.
MOMENTS = 5
UPDATE = 2 * MOMENTS


def moments(values: Tensor | None, wide: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Moments of a flat tensor: `[5]` count, sum, sum of squares, zeros, non-finite; and the largest magnitude `[]`.

    Sums and magnitude cover the finite values only, so that one NaN does not hide the rest.
    """
    if values is None or values.numel() == 0:
        return torch.zeros(MOMENTS, dtype=wide, device=device), torch.zeros((), dtype=wide, device=device)
    clean = torch.nan_to_num(values.float(), nan=0.0, posinf=0.0, neginf=0.0)
    norm = torch.linalg.vector_norm(clean, dtype=wide)
    count = torch.tensor(values.numel(), dtype=wide, device=device)
    zeros = values.numel() - torch.count_nonzero(values)
    nonfinite = values.numel() - torch.isfinite(values).sum()
    found = torch.stack([count, clean.sum(dtype=wide), norm * norm, zeros.to(wide), nonfinite.to(wide)])
    return found, torch.linalg.vector_norm(clean, ord=math.inf).to(wide)


def _moments_of_sample(sample: Sample, values: Tensor) -> Tensor:
    finite = torch.isfinite(values)
    clean = torch.where(finite, values, 0.0).to(sample.shards.wide)
    columns = [torch.ones_like(clean), clean, clean * clean, values == 0, ~finite]
    return sample.per_parameter(torch.stack([column.to(clean.dtype) for column in columns], dim=1))


def sums_of(sample: Sample, before: Tensor, now: Tensor, exact: bool) -> tuple[Tensor, Tensor]:
    """Sums `[parameters, 12]` and largest magnitudes `[parameters]` over all ranks, on the CPU.

    Args:
        sample: which elements of which parameters.
        before: their values before the batch, as `Sample.local` gives them.
        now: their values after it.
        exact: take moments from every element instead of the sample.
    """
    shards = sample.shards
    if exact:
        rows, tops = [], []
        for shard in shards:
            weight, top = moments(shard.local(), shards.wide, shards.device)
            gradient, _ = moments(shard.grad(), shards.wide, shards.device)
            rows.append(torch.cat([weight, gradient]))
            tops.append(top)
        both, largest = torch.stack(rows), torch.stack(tops)
    else:
        both = torch.cat([_moments_of_sample(sample, now), _moments_of_sample(sample, sample.local(True))], dim=1)
        largest = torch.zeros(len(shards), dtype=shards.wide, device=shards.device)
        magnitude = torch.nan_to_num(now, nan=0.0, posinf=0.0, neginf=0.0).abs().to(shards.wide)
        largest.scatter_reduce_(0, sample.owners, magnitude, reduce="amax")
    change, old = (now - before).to(shards.wide), before.to(shards.wide)
    update = sample.per_parameter(torch.stack([change * change, old * old], dim=1))
    sums = shards.reduce(torch.cat([both, update], dim=1))
    return sums.cpu(), shards.reduce(largest, "MAX").cpu()


@dataclass
class Spread:
    """Statistics of one unit; `WeightDistributionMonitor` describes each."""

    norm: float
    mean: float
    std: float
    abs_max: float
    zeros: float
    nonfinite: float
    update_ratio: float | None
    grad_norm: float | None
    grad_std: float | None
    grad_nonfinite: float | None

    def metrics(self) -> dict[str, float]:
        """The statistics that were measured (not None)."""
        return {key: value for key, value in vars(self).items() if value is not None}


def spread_of(sums: Tensor, abs_max: float) -> Spread:
    """Statistics of one unit from the sum `[12]` of its parameters' rows."""

    def shape(part: list[float]) -> tuple[float, float, float, float, float]:
        count, total, squares, zeros, nonfinite = part
        finite = max(count - nonfinite, 1.0)
        mean = total / finite
        return (
            math.sqrt(squares),
            mean,
            math.sqrt(max(squares / finite - mean * mean, 0.0)),
            zeros / count,
            nonfinite / count,
        )

    row = sums.tolist()
    norm, mean, std, zeros, nonfinite = shape(row[:MOMENTS]) if row[0] else (0.0,) * MOMENTS
    gradient = shape(row[MOMENTS:UPDATE]) if row[MOMENTS] else None
    change, old = row[UPDATE:]
    return Spread(
        norm=norm,
        mean=mean,
        std=std,
        abs_max=abs_max,
        zeros=zeros,
        nonfinite=nonfinite,
        update_ratio=math.sqrt(change / old) if old > 0 and math.isfinite(change) else None,
        grad_norm=gradient[0] if gradient else None,
        grad_std=gradient[2] if gradient else None,
        grad_nonfinite=gradient[4] if gradient else None,
    )


def weighted_quantiles(values: np.ndarray, weights: np.ndarray, levels: list[float]) -> list[float]:
    """For each level, the smallest value whose cumulative weight reaches that share; both arrays are flat."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    # A cumulative sum can be a rounding error below the level that it is compared with.
    at = np.searchsorted(reached, np.asarray(levels) * reached[-1] * (1 - 1e-12), side="left")
    return [float(value) for value in values[order][np.minimum(at, len(values) - 1)]]


def histogram(values: np.ndarray, weights: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts `[bins]` and edges `[bins + 1]` of the finite values, each counted `weights` times."""
    finite = np.isfinite(values)
    return np.histogram(values[finite], bins=bins, weights=weights[finite])
