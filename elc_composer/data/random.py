"""Counter-based random numbers keyed by sample, independent of batch composition, worker and rank.

A stateful generator would make the mask of a sample depend on everything drawn before it. Here the n-th number for a
purpose is a hash of (seed, epoch, sample id, purpose, n), computed for a whole batch at once. The hash is the finalizer
of SplitMix64 (Steele, Lea & Flood 2014), applied to each part of the key in turn; as a generator it passes BigCrush.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]

# Purposes of random numbers: each has a sequence of its own for every sample. Their values are part of the hash: a
# changed value changes the masks of every run.
COUNT, LENGTH, START, REPLACEMENT, RANDOM_TOKEN, SHORT = range(6)

GAMMA = np.uint64(0x9E3779B97F4A7C15)
_M1, _M2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_PURPOSE = np.arange(1, 65, dtype=np.uint64) * _M1
_S30, _S27, _S31, _S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)


def _mix(x: Keys) -> Keys:
    """Scramble uint64 values of any shape; overwrites `x`."""
    x ^= x >> _S30
    x *= _M1
    x ^= x >> _S27
    x *= _M2
    x ^= x >> _S31
    return x


def sample_keys(seed: int, epochs: Sequence[int] | NDArray, sample_ids: Sequence[int] | NDArray) -> Keys:
    """One key per sample, `[B]` uint64, from the seed of the run and the epochs `[B]` and ids `[B]` of the samples."""
    key = _mix(np.array([seed & 0xFFFFFFFFFFFFFFFF], np.uint64) + GAMMA)
    key = _mix((key ^ np.asarray(epochs, np.int64).astype(np.uint64)) + GAMMA)
    return _mix((key ^ np.asarray(sample_ids, np.int64).astype(np.uint64)) + GAMMA)


def _to_unit(bits: Keys) -> NDArray[np.float64]:
    return (bits >> _S11) * 2.0**-53


def uniforms(keys: Keys, purpose: int, n: int) -> NDArray[np.float64]:
    """`[B, n]` numbers in [0, 1): the first n of each key's sequence for a purpose. A larger n keeps the first ones."""
    base = _mix(keys + _PURPOSE[purpose])
    return _to_unit(_mix(base[:, None] + np.arange(1, n + 1, dtype=np.uint64) * GAMMA))


def uniforms_at(keys: Keys, purpose: int, counters: NDArray) -> NDArray[np.float64]:
    """`[M]` numbers in [0, 1): number `counters[m]` of the sequence of `keys[m]`, equal to that of `uniforms`."""
    base = _mix(keys + _PURPOSE[purpose])
    return _to_unit(_mix(base + (counters.astype(np.uint64) + np.uint64(1)) * GAMMA))
