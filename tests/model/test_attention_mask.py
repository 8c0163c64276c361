"""Attention masks of two, three and four dimensions, boolean, integer and additive."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from elc_composer.model import ElcConfig
from elc_composer.model.attention import RelativePositions, plain_attention, torch_attention
from elc_composer.model.attention_mask import prepare_mask
from tests.model.small_models import attention, build

LENGTH, HEADS = 12, 3
INF = math.inf
kernels = pytest.mark.parametrize("kernels", ["eager", "torch"])
gradients = pytest.mark.parametrize("with_gradients", [True, False], ids=["gradients", "inference"])


def ids() -> Tensor:
    return torch.randint(7, 60, (3, LENGTH), generator=torch.Generator().manual_seed(0))


def real_tokens() -> Tensor:
    """`[3, T]`: whole, padded on the right, padded on the left."""
    place = torch.arange(LENGTH).expand(3, -1)
    return (place < torch.tensor([[12], [7], [12]])) & (place >= torch.tensor([[0], [0], [4]]))


def additive(keep: Tensor, value: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.zeros(keep.shape, dtype=dtype).masked_fill(~keep, value)


FORMS = {
    "bool": lambda real: real,
    "int": lambda real: real.long(),
    "int8 above one": lambda real: real.to(torch.int8) * 5,
    "float of two dimensions": lambda real: real.float(),
    "bool, 3 dimensions": lambda real: real[:, None].expand(-1, LENGTH, -1),
    "int, 3 dimensions, one query": lambda real: real[:, None].long(),
    "bool, 4 dimensions": lambda real: real[:, None, None].expand(-1, HEADS, LENGTH, -1),
    "int, 4 dimensions, one head": lambda real: real[:, None, None].expand(-1, 1, LENGTH, -1).int(),
    "-inf": lambda real: additive(real[:, None, None], -INF),
    "-inf, 3 dimensions": lambda real: additive(real[:, None], -INF),
    "lowest float32": lambda real: additive(real[:, None, None], torch.finfo(torch.float32).min, torch.float32),
    "lowest bfloat16": lambda real: additive(real[:, None, None], torch.finfo(torch.bfloat16).min, torch.bfloat16),
    "lowest float16": lambda real: additive(real[:, None, None], torch.finfo(torch.float16).min, torch.float16),
    "-1e9": lambda real: additive(real[:, None, None].expand(-1, -1, LENGTH, -1), -1e9, torch.float32),
}


@gradients
@kernels
@pytest.mark.parametrize("form", FORMS)
def test_forms_of_the_same_mask(form: str, kernels: str, with_gradients: bool) -> None:
    model, real = build("zero", kernels).double().eval(), real_tokens()
    with torch.set_grad_enabled(with_gradients):
        expected = model(ids(), real).logits[real]
        assert not torch.allclose(model(ids()).logits[real], expected)
        torch.testing.assert_close(model(ids(), FORMS[form](real)).logits[real], expected, rtol=1e-10, atol=1e-10)


def dense_masks() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    keep = torch.rand(3, HEADS, LENGTH, LENGTH, generator=generator) < 0.4
    keep[1, :, 3] = False
    bias = torch.randn(3, 1, LENGTH, LENGTH, generator=generator, dtype=torch.float64) * 2
    return {
        "bool for each head": keep,
        "int": keep[:, :1].long(),
        "bool for all sequences": keep[:1, :1],
        "causal": torch.ones(LENGTH, LENGTH).tril().bool()[None],
        "numbers": bias,
        "numbers and -inf": bias.masked_fill(~keep[:, :1], -INF),
        "numbers in float32": bias.float().masked_fill(~keep[:, :1], torch.finfo(torch.float32).min),
    }


@gradients
@kernels
@pytest.mark.parametrize("name", dense_masks())
def test_dense_masks_against_the_formula(name: str, kernels: str, with_gradients: bool) -> None:
    """Each query has own keys; one of the second sequence has none and gets zeros, gradients included."""
    generator = torch.Generator().manual_seed(2)
    shapes = [(3, LENGTH, 2, HEADS, 8), (3, LENGTH, HEADS, 8), (15, 2, HEADS, 8)]
    leaves = [torch.randn(s, generator=generator, dtype=torch.float64, requires_grad=with_gradients) for s in shapes]
    query_key, value, position = leaves
    given = dense_masks()[name]
    whole = given if given.dim() == 4 else given[:, None]
    added = whole.double() if whole.is_floating_point() else additive(whole.bool(), -INF)
    added = added.masked_fill(added < -60000, -INF)
    buckets = torch.randint(0, 15, (LENGTH, LENGTH), generator=generator)

    def formula() -> Tensor:
        query, key = query_key.transpose(1, 3).unbind(2)
        query_position, key_position = position.transpose(0, 2).unbind(1)
        scores = query @ key.mT
        scores = scores + torch.einsum("bhqd,hqkd->bhqk", query, key_position[:, buckets])
        scores = (scores + torch.einsum("bhkd,hqkd->bhqk", key, query_position[:, buckets])) * 0.2 + added
        empty = (added == -INF).all(-1, keepdim=True)
        probabilities = torch.softmax(scores.masked_fill(empty, 0.0), -1).masked_fill(empty, 0.0)
        return (probabilities @ value.transpose(1, 2)).transpose(1, 2)

    mask = prepare_mask(given, 3, LENGTH, HEADS)
    attend = torch_attention if kernels == "torch" else lambda *arguments: plain_attention(*arguments)[0]
    found, expected = attend(*leaves, buckets, mask, 0.2), formula()
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    if with_gradients:
        wanted = torch.randn(found.shape, generator=generator, dtype=torch.float64)
        for own, other in zip(*(torch.autograd.grad(out, leaves, wanted) for out in (found, expected)), strict=True):
            torch.testing.assert_close(own, other, rtol=1e-9, atol=1e-9)


@kernels
def test_a_bias_learns(kernels: str) -> None:
    module = attention(kernels)
    bias = torch.randn(2, 1, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    x, relative = torch.randn(2, 9, 48).double(), torch.randn(15, 48).double()
    buckets = RelativePositions(ElcConfig(position_bucket_size=8))(9)
    torch.autograd.gradcheck(lambda bias: module(x, bias, relative, buckets)[:, :2, :3], bias)


@kernels
def test_with_a_causal_mask_later_tokens_do_not_matter(kernels: str) -> None:
    model, causal = build("weighted_output", kernels).double().eval(), torch.ones(LENGTH, LENGTH).tril()[None].bool()
    changed = ids()
    changed[:, 8:] = 9
    first, second = (model(tokens, causal).logits for tokens in (ids(), changed))
    assert torch.equal(first[:, :8], second[:, :8])
    assert not torch.allclose(first[:, 8:], second[:, 8:])


@kernels
def test_packed_sequences_do_not_see_each_other(kernels: str) -> None:
    model = build("base", kernels).double().eval()
    owner = torch.tensor([0] * 5 + [1] * 7)
    packed = model(ids(), (owner[:, None] == owner[None, :])[None]).logits
    torch.testing.assert_close(packed[:, :5], model(ids()[:, :5]).logits)
    torch.testing.assert_close(packed[:, 5:], model(ids()[:, 5:]).logits)


@gradients
@kernels
def test_a_sequence_of_padding_attends_to_nothing(kernels: str, with_gradients: bool) -> None:
    module = attention(kernels)
    seen = []
    module.out_proj.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    real = torch.tensor([[True] * 9, [False] * 9])
    buckets = RelativePositions(ElcConfig(position_bucket_size=8))(9)
    with torch.set_grad_enabled(with_gradients):
        module(torch.randn(2, 9, 48).double(), prepare_mask(real, 2, 9, 4), torch.randn(15, 48).double(), buckets)
    (context,) = seen
    assert context[0].all()
    assert not context[1].any()


@kernels
def test_half_precision_stays_finite(kernels: str) -> None:
    """Lowest scores leave room for what is added to them, so that a padded row is not minus infinity throughout."""
    module = attention(kernels).half()
    real = torch.tensor([[True] * 9, [False] * 9])
    x, relative = (torch.randn(*shape).half() * 30 for shape in ((2, 9, 48), (15, 48)))
    out = module(x, prepare_mask(real, 2, 9, 4), relative, RelativePositions(ElcConfig(position_bucket_size=8))(9))
    assert out.isfinite().all()
    gradients = torch.autograd.grad(out.float().sum(), list(module.parameters()))
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize(
    "mask",
    [
        torch.ones(12),
        torch.ones(3, 11),
        torch.ones(1, 12),
        torch.ones(4, 12, 12),
        torch.ones(3, 12, 13),
        torch.ones(3, 5, 12),
        torch.ones(3, 2, 12, 12),
        torch.ones(3, 1, 1, 12, 12),
        torch.ones(3, 12, dtype=torch.complex64),
        [[1] * 12] * 3,
    ],
    ids=lambda mask: str(list(mask.shape)) if isinstance(mask, Tensor) else "list",
)
def test_other_masks_are_refused(mask: object) -> None:
    with pytest.raises(ValueError, match=r"attention_mask is .*; it must be"):
        build("zero", "torch")(ids(), mask)


def test_a_mask_is_not_read() -> None:
    """Shapes and dtypes decide: models are exported with fake tensors, which have no values."""
    with FakeTensorMode():
        for shape, dtype in [((2, 9), torch.int64), ((2, 9, 9), torch.bool), ((2, 1, 9, 9), torch.float32)]:
            prepared = prepare_mask(torch.empty(shape, dtype=dtype), 2, 9, 4)
            assert prepared.dim() == 4
