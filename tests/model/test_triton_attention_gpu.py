"""The Triton attention on a GPU: the interpreter's cases, memory, and the whole model."""

from __future__ import annotations

import pytest
import torch

from elc_composer.model import ElcConfig, ElcForMaskedLM
from tests.model.triton_attention_cases import *  # noqa: F403
from tests.model.triton_attention_cases import Case, inputs, results, triton_attention

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def test_no_memory_for_every_pair_of_tokens() -> None:
    given = inputs(Case(4096, batch=1, heads=2, head_size=64, bucket_size=32, positions=4096))
    leaves = [leaf.detach().bfloat16().requires_grad_() for leaf in given[:3]]
    cast = given._replace(query_key=leaves[0], value=leaves[1], position=leaves[2])
    # The first call also allocates cuBLAS's workspace, 32 MiB.
    results(cast, triton_attention(*leaves, given.buckets, None, given.scale, 0.1))
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    results(cast, triton_attention(*leaves, given.buckets, None, given.scale, 0.1))
    pairs_in_bytes = 1 * 2 * 4096 * 4096 * 2
    assert torch.cuda.max_memory_allocated() - before < pairs_in_bytes / 2


def test_no_synchronization_with_the_host() -> None:
    given = inputs(Case(64))
    leaves = [leaf.detach().bfloat16().requires_grad_() for leaf in given[:3]]
    torch.cuda.set_sync_debug_mode("error")
    try:
        triton_attention(*leaves, given.buckets, None, given.scale, 0.1).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 5e-2)], ids=str)
def test_the_model_agrees_with_the_plain_kernels(dtype: torch.dtype, tolerance: float) -> None:
    outputs = []
    ids = torch.randint(7, 500, (3, 100), generator=torch.Generator().manual_seed(0)).cuda()
    mask = torch.arange(100, device="cuda") < torch.tensor([[100], [63], [1]], device="cuda")
    for kernels in ("eager", "triton"):
        torch.manual_seed(0)
        config = ElcConfig(vocab_size=500, hidden_size=128, num_hidden_layers=4, num_attention_heads=2, kernels=kernels)
        model = ElcForMaskedLM(config).eval().to("cuda", dtype)
        loss = model(ids, mask, torch.where(mask, ids, -100)).loss
        outputs.append([loss, *torch.autograd.grad(loss, list(model.parameters()))])
    for plain, fast in zip(*outputs, strict=True):
        assert float((plain - fast).abs().max()) <= tolerance * max(float(plain.abs().max()), 1e-2)
