"""ElcComposerModel: loss, gradients, metrics and FLOPs of the labels, with and without `masked_positions`."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from elc_composer.data.masking import MaskingConfig
from elc_composer.data.positions import LabelPositions
from elc_composer.model import ElcConfig, ElcForMaskedLM
from elc_composer.training.composer_model import ElcComposerModel

ROWS, LENGTH, VOCAB = 6, 40, 50


@pytest.fixture
def model() -> ElcComposerModel:
    torch.manual_seed(0)
    config = ElcConfig(
        layer_mixing="zero",
        vocab_size=VOCAB,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        position_bucket_size=8,
    )
    return ElcComposerModel(ElcForMaskedLM(config)).eval()


@pytest.fixture
def bare() -> dict:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(7, VOCAB, (ROWS, LENGTH), generator=generator)
    labels = torch.where(torch.rand(ROWS, LENGTH, generator=generator) < 0.15, ids, -100)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids, dtype=torch.bool), "labels": labels}


@pytest.fixture
def located(bare: dict) -> dict:
    counted = {**bare, "label_counts": (bare["labels"] != -100).sum(1).tolist()}
    (batch,) = LabelPositions(MaskingConfig())(counted, ROWS)
    assert len(batch["masked_positions"]) > (bare["labels"] != -100).sum()
    return batch


def test_the_loss_is_the_mean_over_labels(model: ElcComposerModel, bare: dict, located: dict) -> None:
    logits = model.model(bare["input_ids"], bare["attention_mask"]).logits
    expected = F.cross_entropy(logits.flatten(0, 1), bare["labels"].flatten())
    for batch in (bare, located):
        assert torch.allclose(model.loss(model(batch), batch), expected, rtol=1e-6)


def test_added_positions_change_no_gradient(model: ElcComposerModel, bare: dict, located: dict) -> None:
    gradients = []
    for batch in (bare, located):
        model.zero_grad()
        model.loss(model(batch), batch).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert torch.allclose(*gradients, atol=1e-6 * gradients[0].abs().max())


def test_added_positions_change_no_metric(model: ElcComposerModel, bare: dict, located: dict) -> None:
    values = []
    for batch in (bare, located):
        outputs = model.eval_forward(batch)
        metrics = model.get_metrics(is_train=False)
        for metric in metrics.values():
            metric.reset()
            model.update_metric(batch, outputs, metric)
        values.append({name: float(metric.compute()) for name, metric in metrics.items()})
    assert values[0] == pytest.approx(values[1], rel=1e-6)
    assert 0 < values[0]["LanguageCrossEntropy"] < 10


@pytest.mark.parametrize("with_positions", [True, False])
def test_a_microbatch_without_labels_has_loss_and_gradient_zero(
    with_positions: bool, model: ElcComposerModel, bare: dict
) -> None:
    batch = {**bare, "labels": torch.full_like(bare["labels"], -100)}
    if with_positions:
        batch = LabelPositions(MaskingConfig()).locate(batch)
    loss = model.loss(model(batch), batch)
    loss.backward()
    assert float(loss) == 0.0
    assert all(float(p.grad.abs().max()) == 0.0 for p in model.parameters() if p.grad is not None)
    assert model.flops_per_batch(batch) > 0


def test_flops_count_labels_only(model: ElcComposerModel, bare: dict, located: dict) -> None:
    labels = int((bare["labels"] != -100).sum())
    expected = model.model.estimate_flops(ROWS, LENGTH, labels)
    assert model.flops_per_batch(bare) == model.flops_per_batch(located) == expected


def test_a_batch_with_positions_needs_no_device_synchronization(model: ElcComposerModel, located: dict) -> None:
    """On the meta device nothing can be read: an attempt raises."""
    batch = {key: value.to("meta") if isinstance(value, torch.Tensor) else value for key, value in located.items()}
    model.to("meta").train()
    loss = model.loss(model(batch), batch)
    loss.backward()
    assert model.flops_per_batch(batch) > 0
    assert loss.device.type == "meta"


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_label_smoothing_is_of_the_training_loss_alone(
    model: ElcComposerModel, bare: dict, located: dict, share: float
) -> None:
    smoothing = ElcComposerModel(model.model, label_smoothing=share)
    logits = model.model(bare["input_ids"], bare["attention_mask"]).logits.flatten(0, 1)
    labels = bare["labels"].flatten()
    sharp = F.cross_entropy(logits, labels)
    smooth = F.cross_entropy(logits, labels, label_smoothing=share)
    for module in smoothing.modules():
        if hasattr(module, "p"):
            module.p = 0.0
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.0
    for batch in (bare, located):
        smoothing.train()
        assert torch.allclose(smoothing.loss(smoothing(batch), batch), smooth, rtol=1e-5)
        smoothing.eval()
        assert torch.allclose(smoothing.loss(smoothing(batch), batch), sharp, rtol=1e-6)
    smoothing.train()
    unlabelled = {**bare, "labels": torch.full_like(bare["labels"], -100)}
    assert smoothing.loss(smoothing(unlabelled), unlabelled) == 0


def test_composer_gets_no_metrics_for_training(model: ElcComposerModel) -> None:
    """Composer's training metrics make the host wait in each step; StepMetrics logs the accuracy instead."""
    assert model.get_metrics(is_train=True) == {}
    assert {"LanguageCrossEntropy", "LanguagePerplexity", "MaskedAccuracy"} <= model.get_metrics(is_train=False).keys()
