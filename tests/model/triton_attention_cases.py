"""Cases of the Triton attention, each against the plain form in float64: in the interpreter, or on a GPU.

Errors are relative to the largest magnitude of what is compared, or to 1. In half precision, rounding of the look-up
tables and of the probabilities decides them: a few steps of the format, which are 2^-11 and 2^-8.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from elc_composer.model.attention import bias_by_bucket, relative_position_buckets
from elc_composer.model.triton_attention import (
    SAVED_LENGTH,
    Launch,
    dropout_threshold,
    saves_probabilities,
    triton_attention,
)
from tests.model.fused_multiply_add import contracted
from tests.model.triton_interpreter import DEVICE

TOLERANCE = {torch.float32: 5e-6, torch.float16: 4e-3, torch.bfloat16: 4e-2}
Record = Callable[[str, object], None]


class Case(NamedTuple):
    length: int
    batch: int = 2
    heads: int = 2
    head_size: int = 16
    bucket_size: int = 8
    positions: int = 512


class Inputs(NamedTuple):
    """Leaves, in float64, and what does not learn."""

    query_key: Tensor
    value: Tensor
    position: Tensor
    buckets: Tensor
    d_out: Tensor
    scale: float


def inputs(case: Case) -> Inputs:
    generator = torch.Generator().manual_seed(case.length)

    def normal(*shape: int) -> Tensor:
        # Representable in bfloat16, so that every dtype starts from the same numbers.
        numbers = torch.randn(*shape, generator=generator).bfloat16().double()
        return numbers.to(DEVICE).requires_grad_()

    table = relative_position_buckets(case.bucket_size, case.positions)
    table = table[case.positions - case.length : case.positions + case.length - 1].int().to(DEVICE)
    tokens = (case.batch, case.length)
    return Inputs(
        normal(*tokens, 2, case.heads, case.head_size),
        normal(*tokens, case.heads, case.head_size),
        normal(2 * case.bucket_size - 1, 2, case.heads, case.head_size),
        table,
        normal(*tokens, case.heads, case.head_size).detach(),
        1.0 / math.sqrt(3 * case.head_size),
    )


def plain(given: Inputs, padding: Tensor | None, kept: Tensor | None = None) -> Tensor:
    """Attention written out; `kept` `[B, H, T, T]` multiplies the probabilities."""
    query, key = given.query_key.transpose(1, 3).unbind(2)
    query_position, key_position = (given.position * given.scale).transpose(0, 2).unbind(1)
    length = query.shape[2]
    place = torch.arange(length, device=DEVICE)
    pairs = given.buckets.long()[place[:, None] - place[None, :] + length - 1]
    scores = query @ key.transpose(-1, -2) * given.scale
    scores = scores + bias_by_bucket(query, key, query_position, key_position, pairs)
    if padding is not None:
        scores = scores.masked_fill(padding[:, None, None], -torch.inf)
        # A sequence without any key attends to nothing.
        scores = scores.masked_fill(padding.all(1)[:, None, None, None], 0.0)
    probabilities = torch.softmax(scores, -1)
    if padding is not None:
        probabilities = probabilities.masked_fill(padding.all(1)[:, None, None, None], 0.0)
    if kept is not None:
        probabilities = probabilities * kept
    return (probabilities @ given.value.transpose(1, 2)).transpose(1, 2)


def results(given: Inputs, out: Tensor) -> list[Tensor]:
    """The output and the gradients of queries and keys, values, and positions."""
    leaves = given[:3]
    return [out.detach(), *torch.autograd.grad(out, leaves, given.d_out.to(out.dtype))]


def compare(given: Inputs, dtype: torch.dtype, record: Record, padding: Tensor | None = None, **options: Any) -> None:
    """Output and gradients of the kernels within the dtype's tolerance of the plain form's."""
    kept = options.pop("kept", None)
    expected = results(given, plain(given, padding, kept))
    cast = given._replace(**{name: getattr(given, name).detach().to(dtype).requires_grad_() for name in LEAVES})
    out = triton_attention(*cast[:3], given.buckets, padding, given.scale, **options)
    for name, actual, wanted in zip(("output", *LEAVES), results(cast, out), expected, strict=True):
        assert actual.dtype == dtype
        # Gradients may be 0 throughout (with a single key); inputs are of size 1.
        size = max(float(wanted.abs().max()), 1.0)
        error = float((actual.double() - wanted).abs().max()) / size
        record("error", [f"{name}, {dtype}", error])
        assert error <= TOLERANCE[dtype], (name, error)


LEAVES = ("query_key", "value", "position")
CASES = {
    "one token": Case(1),
    "two tokens": Case(2),
    "odd": Case(33, heads=1),
    "several blocks": Case(150, batch=1, heads=1, head_size=32),
    "base model's heads": Case(65, batch=1, heads=1, head_size=64, bucket_size=32),
    "head size of no power of two": Case(20, heads=3, head_size=12),
    "wide heads": Case(40, batch=1, heads=1, head_size=128),
    "beyond the last bucket's start": Case(100, batch=1, heads=1, bucket_size=4, positions=128),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_agrees_with_the_plain_form(name: str, dtype: torch.dtype, record_property: Record) -> None:
    compare(inputs(CASES[name]), dtype, record_property)


def padded_rows(length: int) -> Tensor:
    """`[8, T]` bool, True at padding: rows that are real at the start, at the end, with gaps, at one place, nowhere."""
    place = torch.arange(length, device=DEVICE)
    gaps = torch.rand(length, generator=torch.Generator().manual_seed(0)).to(DEVICE) < 0.5
    real = [
        place >= 0,
        place < length // 3,
        place >= length - length // 3,
        place == 0,
        place == length // 2,
        place == length - 1,
        gaps,
        place < 0,
    ]
    return ~torch.stack(real)


def use_small_tiles(monkeypatch: pytest.MonkeyPatch) -> int:
    """Tokens of a block of keys: 64 on a GPU; 16 in the interpreter, where large tiles are slow."""
    if DEVICE != "cpu":
        return 64
    tiles = Launch(16, 16, 4, 1)
    monkeypatch.setattr("elc_composer.model.triton_attention.launches", lambda *_: (tiles, tiles))
    return 16


@pytest.mark.parametrize("blocks", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_padding(blocks: int, dtype: torch.dtype, record_property: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    length = blocks * use_small_tiles(monkeypatch) - 3
    compare(inputs(Case(length, batch=8, heads=1)), dtype, record_property, padded_rows(length))


@pytest.mark.parametrize("which", ["first", "second"])
@pytest.mark.parametrize("head_size", [16, 32])
def test_padding_with_fused_multiply_adds(
    head_size: int, which: str, record_property: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A product that is rounded once with the sum, as on a GPU, must not matter where all keys so far are padding.

    The rounding error of a large product is positive for one of the head sizes and negative for the other.
    """
    length = 3 * use_small_tiles(monkeypatch) - 3
    given = inputs(Case(length, batch=8, heads=1, head_size=head_size))
    with contracted(which) if DEVICE == "cpu" else nullcontext():
        compare(given, torch.float32, record_property, padded_rows(length))


TILES = {
    "backward tiles of the forward's size": (Launch(16, 16, 4, 1), Launch(16, 16, 4, 1)),
    "two blocks of keys for one tile": (Launch(32, 16, 4, 1), Launch(32, 32, 4, 1)),
    "half a block of keys for one tile": (Launch(16, 32, 4, 1), Launch(16, 16, 4, 1)),
}


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("tiles", TILES if DEVICE == "cpu" else ["those chosen"])
def test_both_forms_of_the_backward_agree(
    tiles: str, dropout: float, record_property: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradients from saved probabilities against those from scores and a mask computed again, with padding."""
    if tiles in TILES:
        monkeypatch.setattr("elc_composer.model.triton_attention.launches", lambda *_: TILES[tiles])
    given = inputs(Case(70, batch=8, heads=1))
    leaves = [leaf.detach().bfloat16().requires_grad_() for leaf in given[:3]]
    cast = given._replace(query_key=leaves[0], value=leaves[1], position=leaves[2])
    found = []
    for longest in (0, 70):
        monkeypatch.setattr("elc_composer.model.triton_attention.SAVED_LENGTH", longest)
        torch.manual_seed(5)
        out = triton_attention(*leaves, given.buckets, padded_rows(70), given.scale, dropout)
        found.append(results(cast, out))
    assert torch.equal(found[0][0], found[1][0])
    for name, computed, read in zip(LEAVES, found[0][1:], found[1][1:], strict=True):
        error = float((computed - read).abs().max() / computed.abs().max())
        record_property("error", [name, error])
        assert error <= 2e-2, (name, error)


def test_probabilities_are_saved_where_a_gradient_of_a_short_half_precision_sequence_follows() -> None:
    def leaves(length: int, dtype: torch.dtype, requires_grad: bool = True) -> list[Tensor]:
        return [torch.zeros(1, length, 1, 16, dtype=dtype, requires_grad=requires_grad)] * 3

    assert saves_probabilities(*leaves(SAVED_LENGTH, torch.bfloat16))
    assert not saves_probabilities(*leaves(SAVED_LENGTH + 1, torch.bfloat16))
    assert not saves_probabilities(*leaves(8, torch.float32))
    assert not saves_probabilities(*leaves(8, torch.bfloat16, requires_grad=False))
    with torch.no_grad():
        assert not saves_probabilities(*leaves(8, torch.bfloat16))


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_sequence_of_padding_gives_zeros_and_no_gradients(dropout: float, record_property: Record) -> None:
    given = inputs(Case(20))
    padding = torch.zeros(2, 20, dtype=torch.bool, device=DEVICE)
    padding[1] = True
    out = triton_attention(*(leaf.float() for leaf in given[:3]), given.buckets, padding, given.scale, dropout)
    d_query_key, d_value, d_position = torch.autograd.grad(out, given[:3], torch.randn_like(out))
    assert not any(x[1].any() for x in (out, d_query_key, d_value))
    assert all(x[0].any() for x in (out, d_query_key, d_value))
    assert d_position.isfinite().all()
    if not dropout:
        compare(given, torch.float32, record_property, padding)


def dropped_probabilities(case: Case, dropout: float) -> Tensor:
    """`[B, H, T, T]` what the kernel multiplies probabilities by: outputs where scores are 0 and values an identity."""
    zeros = torch.zeros(case.batch, case.length, 2, case.heads, case.head_size, device=DEVICE)
    position = torch.zeros(2 * case.bucket_size - 1, 2, case.heads, case.head_size, device=DEVICE)
    columns = []
    for start in range(0, case.length, case.head_size):
        value = torch.eye(case.length, device=DEVICE)[:, start : start + case.head_size]
        value = torch.nn.functional.pad(value, (0, case.head_size - value.shape[1]))
        value = value[None, :, None].expand(case.batch, -1, case.heads, -1)
        # The same numbers, so the same mask.
        torch.manual_seed(7)
        columns.append(triton_attention(zeros, value, position, inputs(case).buckets, None, 1.0, dropout))
    return torch.cat(columns, -1)[..., : case.length].transpose(1, 2) * case.length


def test_dropout_keeps_the_mean_and_its_share() -> None:
    case, dropout = Case(70, batch=2, heads=2, head_size=128), 0.3
    factors = dropped_probabilities(case, dropout).double()
    kept = factors > 0.5
    threshold, keep_scale = dropout_threshold(dropout)
    torch.testing.assert_close(factors, kept.double() * keep_scale, rtol=1e-5, atol=1e-5)
    share = threshold / 2**16
    assert share == pytest.approx(dropout, abs=2**-17)
    deviation = math.sqrt(share * (1 - share))
    assert float(kept.double().mean()) == pytest.approx(1 - share, abs=4 * deviation / math.sqrt(kept.numel()))
    # Every sequence, head, query and key has its own: means along each scatter as independent draws do.
    for dims in ((1, 2, 3), (0, 2, 3), (0, 1, 3), (0, 1, 2)):
        means = kept.double().mean(dims)
        assert float((means - (1 - share)).abs().max()) < 5 * deviation / math.sqrt(kept.numel() / len(means))
    neighbours = [(kept[..., n:], kept[..., :-n]) for n in (1, 8, 64)]
    for one, other in [(kept[0], kept[1]), (kept[:, 0], kept[:, 1]), (kept[:, :, 1:], kept[:, :, :-1]), *neighbours]:
        agreement = float((one == other).double().mean())
        assert agreement == pytest.approx(1 - 2 * share * (1 - share), abs=4 * 0.5 / math.sqrt(one.numel()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_backward_drops_what_the_forward_dropped(dtype: torch.dtype, record_property: Record) -> None:
    case = Case(70, batch=1, heads=2, head_size=128)
    kept = dropped_probabilities(case, 0.4).double()
    torch.manual_seed(7)
    compare(inputs(case), dtype, record_property, dropout=0.4, kept=kept)


def test_the_mask_does_not_depend_on_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    from elc_composer.model import triton_attention as module

    case = Case(70, batch=1, heads=1, head_size=128)
    masks = [dropped_probabilities(case, 0.5) > 0.5]
    for size in (16, 64):
        tiles = Launch(size, size, 4, 1)
        monkeypatch.setattr(module, "launches", lambda *_, tiles=tiles: (tiles, tiles))
        masks.append(dropped_probabilities(case, 0.5) > 0.5)
    assert all(torch.equal(mask, masks[0]) for mask in masks)


def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    given = inputs(Case(17, batch=1))

    def run(seed: int) -> list[Tensor]:
        torch.manual_seed(seed)
        out = triton_attention(*(x.float() for x in given[:3]), given.buckets, None, given.scale, 0.2)
        return results(given, out)

    first, again, other = run(1), run(1), run(2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    torch.manual_seed(1)
    once = triton_attention(*(x.float() for x in given[:3]), given.buckets, None, given.scale, 0.2)
    twice = triton_attention(*(x.float() for x in given[:3]), given.buckets, None, given.scale, 0.2)
    assert not torch.equal(once, twice)


def test_recomputation_drops_the_same() -> None:
    given = inputs(Case(17, batch=1))

    def attend(query_key: Tensor, value: Tensor, position: Tensor) -> Tensor:
        return triton_attention(
            query_key.float(), value.float(), position.float(), given.buckets, None, given.scale, 0.3
        )

    gradients = []
    for run in (attend, lambda *leaves: checkpoint(attend, *leaves, use_reentrant=False)):
        torch.manual_seed(3)
        gradients.append(results(given, run(*given[:3])))
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_second_derivatives_are_refused() -> None:
    given = inputs(Case(5, batch=1, heads=1))
    leaves = [leaf.detach().float().requires_grad_() for leaf in given[:3]]
    out = triton_attention(*leaves, given.buckets, None, given.scale)
    with pytest.raises(RuntimeError, match="set kernels=eager"):
        torch.autograd.grad(out.sum(), leaves, create_graph=True)


def test_operators_keep_to_torchs_rules() -> None:
    """Schema, fake kernels (shapes, dtypes, strides) and autograd registration, as torch.compile relies on them."""
    from elc_composer.model.triton_attention import attention_op

    given = inputs(Case(9, batch=1, heads=1))
    leaves = [leaf.detach().float().requires_grad_() for leaf in given[:3]]
    padding = torch.zeros(1, 9, dtype=torch.bool, device=DEVICE)
    seed = torch.tensor([5], device=DEVICE)
    arguments = (*leaves, given.buckets, padding, seed, given.scale, 0.1, False)
    torch.library.opcheck(attention_op, arguments, rtol=1e-4, atol=1e-4)


def test_compiles_into_one_graph() -> None:
    given = inputs(Case(9, batch=1, heads=1))
    leaves = [leaf.detach().float().requires_grad_() for leaf in given[:3]]

    def attend(query_key: Tensor, value: Tensor, position: Tensor) -> Tensor:
        return triton_attention(query_key, value, position, given.buckets, None, given.scale, 0.1).sin()

    gradients = []
    for run in (attend, torch.compile(attend, backend="aot_eager", fullgraph=True)):
        torch.manual_seed(3)
        gradients.append(torch.autograd.grad(run(*leaves).sum(), leaves))
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
