"""Sequences longer than `max_position_embeddings`, whose position buckets are made for their length."""

from __future__ import annotations

import math

import pytest
import torch

from elc_composer.evaluation.scoring import score_sentences
from elc_composer.model import ElcConfig, ElcForMaskedLM
from elc_composer.model.attention import Attention, RelativePositions, relative_position_buckets
from tests.evaluation.tiny import tiny_tokenizer
from tests.model.small_models import SHAPE, build


def published_bucket(distance: int, bucket_size: int, positions: int) -> int:
    """One entry of the published table, by the formula of DeBERTa."""
    exact = bucket_size // 2
    if abs(distance) <= exact:
        return bucket_size - 1 + distance
    size = torch.log(torch.tensor(abs(distance) / exact, dtype=torch.float32)) / math.log((positions - 1) / exact)
    wide = int(torch.ceil(size * (exact - 1))) + exact
    return bucket_size - 1 + min(wide, bucket_size - 1) * (1 if distance > 0 else -1)


@pytest.mark.parametrize("length", [64, 65, 90, 129])
def test_buckets_are_those_of_a_model_of_that_length(length: int) -> None:
    table = RelativePositions(ElcConfig(max_position_embeddings=64, position_bucket_size=8))
    found = table(length)
    assert found.shape == (length, length)
    assert torch.equal(
        found, RelativePositions(ElcConfig(max_position_embeddings=length, position_bucket_size=8))(length)
    )
    for query, key in [(0, 0), (0, length - 1), (length - 1, 0), (40, 3), (5, 60), (63, 32)]:
        assert found[query, key] == published_bucket(query - key, 8, length)
    assert len(table.buckets) == 127
    assert torch.equal(table(64), RelativePositions(ElcConfig(max_position_embeddings=64, position_bucket_size=8))(64))


def test_every_bucket_exists_whatever_the_length() -> None:
    """Rounding must not lead beyond the last bucket, where the relative embeddings end."""
    for bucket_size in (2, 3, 4, 8, 16, 32, 64):
        for length in [*range(bucket_size, 700), 1024, 2048, 4096]:
            table = relative_position_buckets(bucket_size, length)
            assert table.min() >= 0, (bucket_size, length)
            assert table.max() <= 2 * bucket_size - 2, (bucket_size, length)


@pytest.mark.parametrize("kernels", ["eager", "torch"])
def test_a_short_model_reads_long_sequences_as_a_long_one(kernels: str) -> None:
    short = build("zero", kernels).eval()
    long = ElcForMaskedLM(
        ElcConfig(layer_mixing="zero", kernels=kernels, **{**SHAPE, "max_position_embeddings": 100})
    ).eval()
    long.load_state_dict(short.state_dict())
    ids = torch.randint(7, 60, (2, 100), generator=torch.Generator().manual_seed(0))
    results = []
    for model in (short, long):
        loss = model(ids, labels=ids).loss
        results.append([loss, *torch.autograd.grad(loss, list(model.parameters()))])
    for ours, expected in zip(*results, strict=True):
        assert torch.equal(ours, expected)
    first = short(ids[:, :20]).logits
    assert torch.equal(first, build("zero", kernels).eval()(ids[:, :20]).logits)


@pytest.mark.parametrize("tokenizer_limit", [32, 10**30])
def test_evaluation_takes_sentences_of_any_length(tokenizer_limit: int) -> None:
    """A tokenizer of an exported model still says where texts are cut on request; scoring cuts nothing."""
    tokenizer = tiny_tokenizer()
    tokenizer.model_max_length = tokenizer_limit
    shape = {**SHAPE, "vocab_size": len(tokenizer), "max_position_embeddings": 32}
    torch.manual_seed(0)
    short = ElcForMaskedLM(ElcConfig(**shape)).double().eval()
    long = ElcForMaskedLM(ElcConfig(**{**shape, "max_position_embeddings": 52})).double().eval()
    long.load_state_dict(short.state_dict())
    tokenizer_of_long = tiny_tokenizer()
    (found,) = score_sentences(short, tokenizer, ["the cat " * 25])
    (expected,) = score_sentences(long, tokenizer_of_long, ["the cat " * 25])
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kernels", ["eager", "torch"])
def test_the_attention_block_drops_at_one_rate(kernels: str) -> None:
    """Relative embeddings, probabilities and output: all at `attention_probs_dropout_prob`."""
    rates = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.5}
    attention = Attention(ElcConfig(kernels=kernels, **rates, **SHAPE)).train()
    dropped = {}
    attention.dropout.register_forward_hook(
        lambda module, args, output: dropped.update({tuple(output.shape): float((output == 0).float().mean())})
    )
    buckets = RelativePositions(ElcConfig(**SHAPE))(20)
    attention(torch.randn(8, 20, 24), None, torch.randn(15, 24), buckets)
    assert dropped.keys() == {(15, 24), (8, 20, 24)}
    assert all(0.3 < share < 0.7 for share in dropped.values())
    assert attention.attention_dropout == 0.5
    opposite = Attention(ElcConfig(kernels=kernels, hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.0, **SHAPE))
    inputs = (torch.randn(2, 20, 24), None, torch.randn(15, 24), buckets)
    assert torch.equal(opposite.train()(*inputs), opposite.eval()(*inputs))
