"""Arguments of a call: all that transformers users pass is computed or refused, nothing is ignored."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput, MaskedLMOutput

from elc_composer.model import MIXING_RULES, ElcForMaskedLM, ElcModel
from tests.model.small_models import batch, build

REAL = batch()["attention_mask"]


def encoder_of(model: ElcForMaskedLM) -> ElcModel:
    encoder = ElcModel(model.config).to(model.dtype).eval()
    encoder.load_state_dict(model.state_dict(), strict=False)
    return encoder


@pytest.mark.parametrize("kernels", ["eager", "torch"])
@pytest.mark.parametrize("variant", MIXING_RULES)
def test_attentions(variant: str, kernels: str) -> None:
    """Probabilities of each layer; they explain its output, and asking for them changes no other result."""
    model, given = build(variant, kernels).double().eval(), batch()
    seen: list[tuple[Tensor, Tensor]] = []
    for layer in model.transformer.layers:
        attention = layer.attention
        attention.in_proj_v.register_forward_hook(lambda module, args, output: seen.append((output, torch.empty(0))))
        attention.out_proj.register_forward_pre_hook(lambda module, args: seen.append((seen.pop()[0], args[0])))
    out = model(**given, output_attentions=True)
    assert len(out.attentions) == len(seen) == model.config.num_hidden_layers
    for probabilities, (value, context) in zip(out.attentions, seen, strict=True):
        assert probabilities.shape == (3, 3, 37, 37)
        torch.testing.assert_close(probabilities.sum(-1), torch.ones_like(probabilities.sum(-1)))
        assert not probabilities.permute(0, 3, 1, 2)[~REAL].any()
        by_head = probabilities @ value.unflatten(-1, (3, 8)).transpose(1, 2)
        torch.testing.assert_close(by_head.transpose(1, 2).flatten(2), context)
    plain = model(**given)
    torch.testing.assert_close(out.loss, plain.loss)
    torch.testing.assert_close(out.logits[REAL], plain.logits[REAL])
    assert plain.attentions is None


def test_attentions_with_dropout_are_those_that_were_used() -> None:
    model = build("base", "torch", dropout=0.5).train()
    (first, *_) = model(batch()["input_ids"], output_attentions=True).attentions
    assert 0.4 < float((first == 0).float().mean()) < 0.6


def test_attentions_at_positions_and_gradients_through_them() -> None:
    model, positions = build("zero", "torch").double(), torch.tensor([3, 50])
    out = model(batch()["input_ids"], masked_positions=positions, output_attentions=True)
    assert out.logits.shape == (2, 60)
    assert [a.shape for a in out.attentions] == [(3, 3, 37, 37)] * 4
    out.attentions[2].square().sum().backward()
    assert model.transformer.layers[0].attention.in_proj_qk.weight.grad.any()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", ["hidden_states", "attentions"])
def test_the_config_asks_as_an_argument_does(name: str, masked: bool) -> None:
    positions = {"masked_positions": torch.tensor([3, 50])} if masked else {}
    model = build("weighted_output", "torch").double().eval()
    for each, extra in ((model, positions), (encoder_of(model), {})):
        ids = batch()["input_ids"]
        by_argument = each(ids, **extra, **{f"output_{name}": True})
        setattr(each.config, f"output_{name}", True)
        by_config = each(ids, **extra)
        for one, other in zip(getattr(by_argument, name), getattr(by_config, name), strict=True):
            assert torch.equal(one, other)
        assert getattr(each(ids, **extra, **{f"output_{name}": False}), name) is None
        setattr(each.config, f"output_{name}", False)
        assert getattr(each(ids, **extra), name) is None


@pytest.mark.parametrize("by_config", [False, True])
def test_tuples(by_config: bool) -> None:
    model = build("zero", "torch").double().eval()
    encoder, given = encoder_of(model), batch()
    asked: dict[str, Any] = {} if by_config else {"return_dict": False}
    ids, mask = given["input_ids"], given["attention_mask"]
    expected, whole = model(**given, output_hidden_states=True), encoder(ids, mask)
    model.config.return_dict = encoder.config.return_dict = not by_config
    loss, logits = model(**given, **asked)
    (alone,) = model(ids, mask, **asked)
    with_states = model(**given, **asked, output_hidden_states=True)
    (last,) = encoder(ids, mask, **asked)
    assert torch.equal(loss, expected.loss)
    assert torch.equal(logits, expected.logits)
    assert torch.equal(alone, expected.logits)
    assert torch.equal(with_states[2][-1], expected.hidden_states[-1])
    assert torch.equal(last, whole.last_hidden_state)
    assert isinstance(model(**given, return_dict=True), MaskedLMOutput)
    assert isinstance(encoder(ids, mask, return_dict=True), BaseModelOutput)


@pytest.mark.parametrize("kind", [ElcForMaskedLM, ElcModel])
def test_token_types(kind: type) -> None:
    model = build("zero", "torch").eval()
    model = model if kind is ElcForMaskedLM else encoder_of(model)
    ids = batch()["input_ids"]
    zeros = torch.zeros_like(ids)
    assert torch.equal(model(ids, token_type_ids=zeros)[0], model(ids)[0])
    with pytest.raises(ValueError, match="token_type_ids must be 0"):
        model(ids, token_type_ids=zeros.index_fill(1, torch.tensor([5]), 1))


@pytest.mark.parametrize("kind", [ElcForMaskedLM, ElcModel])
@pytest.mark.parametrize("name", ["position_ids", "head_mask", "atention_mask", "use_cache", "past_key_values"])
def test_unknown_arguments_are_refused(kind: type, name: str) -> None:
    model = build("zero", "torch")
    model = model if kind is ElcForMaskedLM else encoder_of(model)
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
        model(batch()["input_ids"], **{name: None})


@pytest.mark.parametrize("count", [int, torch.tensor], ids=["int", "tensor"])
@pytest.mark.parametrize("variant", ["base", "weighted_output"])
def test_accumulated_gradients_are_those_of_one_batch(variant: str, count: Any) -> None:
    """As transformers' Trainer accumulates: it sums gradients, and passes the labels of the whole step."""
    model, given = build(variant, "torch").double(), batch()
    labelled = int((given["labels"] != -100).sum())
    model(**given).loss.backward()
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    total = 0.0
    for row in range(3):
        part = {name: value[row : row + 1] for name, value in given.items()}
        loss = model(**part, num_items_in_batch=count(labelled)).loss
        loss.backward()
        total += float(loss)
    assert total == pytest.approx(float(model(**given).loss), rel=1e-12)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-9, atol=1e-12)
    nothing = {**given, "labels": torch.full_like(given["labels"], -100)}
    assert model(**nothing, num_items_in_batch=count(0)).loss == 0


def test_trainer_is_told_to_count() -> None:
    """Trainer looks at this attribute, and else for `**kwargs`, which would hide misspelled names."""
    assert ElcForMaskedLM.accepts_loss_kwargs
