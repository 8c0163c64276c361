"""Sentence scores against a plain reference; planning of rows; threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DistilBertConfig,
    DistilBertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    RobertaConfig,
    RobertaForMaskedLM,
)

from elc_composer.common.errors import ConfigError, DataError
from elc_composer.evaluation.config import Method, Reduction, ScoringConfig
from elc_composer.evaluation.encoding import encode_sentences
from elc_composer.evaluation.position_logits import PositionLogits
from elc_composer.evaluation.rows import plan_rows
from elc_composer.evaluation.score_pairs import _score_batches
from elc_composer.evaluation.scoring import RowScorer, default_config, score_sentences, target_log_probs
from elc_composer.model import ElcConfig, ElcForMaskedLM
from elc_composer.model.attention import reuse_positions
from tests.evaluation.tiny import reference_score, tiny_bert, tiny_tokenizer

TEXTS = [
    "the cat sleeps",
    "the cat sleep",
    "zebras see the old dogs near a girl .",
    "who sees ü ?",
    "the cat sleeps",
    "a",
    "himself herself abcdef the [MASK] cat",
]
SIZES = {"num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": len(tiny_tokenizer()), "pad_token_id": 3}
WIDTH = {"hidden_size": 16, "intermediate_size": 24, "max_position_embeddings": 40}


def elc() -> ElcForMaskedLM:
    torch.manual_seed(0)
    return ElcForMaskedLM(ElcConfig(layer_mixing="zero", position_bucket_size=8, **SIZES, **WIDTH)).eval()


def distilbert() -> DistilBertForMaskedLM:
    sizes = {"dim": 16, "hidden_dim": 24, "n_layers": 2, "n_heads": 2, "max_position_embeddings": 40}
    return DistilBertForMaskedLM(DistilBertConfig(vocab_size=SIZES["vocab_size"], pad_token_id=3, **sizes)).eval()


MODELS = {
    "elc": elc,
    "bert": lambda: tiny_bert(SIZES["vocab_size"]),
    "roberta": lambda: RobertaForMaskedLM(RobertaConfig(**SIZES, **{**WIDTH, "max_position_embeddings": 60})).eval(),
    "distilbert": distilbert,
}


@pytest.mark.parametrize("tokens_per_batch", [1, 40, 10_000])
@pytest.mark.parametrize("name", list(MODELS))
def test_scores_are_those_of_one_forward_pass_a_token(name: str, tokens_per_batch: int) -> None:
    model, tokenizer = MODELS[name]().double(), tiny_tokenizer()
    scores = score_sentences(model, tokenizer, TEXTS, ScoringConfig(tokens_per_batch=tokens_per_batch))
    wanted = [reference_score(model, tokenizer, text) for text in TEXTS]
    np.testing.assert_allclose(scores, wanted, rtol=1e-12)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", list(MODELS))
def test_each_thread_scores_batches_of_its_own(name: str, two_threads: None) -> None:
    """Two at a time, which a barrier holds together, each with a single thread of torch's."""
    model, plan = MODELS[name]().double(), plan_rows(encode_sentences(tiny_tokenizer(), TEXTS[:2]))
    scorer, spans = RowScorer(model, ScoringConfig()), plan.spans(1)[:4]
    wanted = [scorer.score(plan, span)[1].numpy() for span in spans]
    together, seen = threading.Barrier(2, timeout=20), []

    def enter(module: torch.nn.Module, args: object) -> None:
        seen.append((threading.get_ident(), torch.get_num_threads()))
        together.wait()

    model.register_forward_pre_hook(enter)
    found = list(scorer.score_each(plan, spans))
    np.testing.assert_allclose(np.concatenate(found), np.concatenate(wanted), rtol=1e-12)
    assert len(seen) == 4
    assert len({thread for thread, _ in seen}) == 2
    assert {threads for _, threads in seen} == {1}
    assert torch.get_num_threads() == 2
    assert threads_of_a_new_thread() == 2


def threads_of_a_new_thread() -> int:
    """torch's number of threads in a new thread; the main thread keeps its own number."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(torch.get_num_threads).result()


def test_failing_batch_stops_the_others_and_restores_the_number_of_threads(two_threads: None) -> None:
    model, begun = tiny_bert(SIZES["vocab_size"]), []

    def fail(module: torch.nn.Module, args: object) -> None:
        begun.append(1)
        time.sleep(0.05)
        raise ZeroDivisionError

    model.register_forward_pre_hook(fail)
    with pytest.raises(ZeroDivisionError):
        score_sentences(model, tiny_tokenizer(), TEXTS, ScoringConfig(tokens_per_batch=1))
    assert len(begun) < 10 < len(plan_rows(encode_sentences(tiny_tokenizer(), TEXTS)).spans(1))
    assert torch.get_num_threads() == 2
    assert threads_of_a_new_thread() == 2


def test_rows_of_several_lengths_are_padded_and_masked() -> None:
    model, sentences = tiny_bert(SIZES["vocab_size"]).double(), encode_sentences(tiny_tokenizer(), TEXTS)
    scorer, plan = RowScorer(model, ScoringConfig()), plan_rows(sentences)
    _, together = scorer.score(plan, (0, plan.n_rows))
    apart = torch.cat([scorer.score(plan, span)[1] for span in sorted(plan.spans(10_000))])
    torch.testing.assert_close(together, apart, rtol=1e-12, atol=0)


def test_rows_of_one_length_have_no_attention_mask() -> None:
    model, masks = elc(), []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: masks.append(kwargs["attention_mask"]), with_kwargs=True
    )
    score_sentences(model, tiny_tokenizer(), TEXTS)
    assert set(masks) == {None}


def test_inputs_go_to_the_device_of_the_model() -> None:
    model = tiny_bert(SIZES["vocab_size"])
    assert RowScorer(model, ScoringConfig()).device.type == "cpu"
    assert RowScorer(model.to("meta"), ScoringConfig()).device.type == "meta"
    assert RowScorer(model, ScoringConfig(), "cpu").device.type == "cpu"


def test_a_model_in_training_mode_is_scored_without_dropout() -> None:
    model = tiny_bert(SIZES["vocab_size"], hidden_dropout_prob=0.5)
    wanted = score_sentences(model.eval(), tiny_tokenizer(), TEXTS)
    np.testing.assert_array_equal(score_sentences(model.train(), tiny_tokenizer(), TEXTS), wanted)
    assert model.training


def test_special_tokens_are_added_once_whether_the_tokenizer_adds_them_or_not() -> None:
    model = tiny_bert(SIZES["vocab_size"])
    plain, adding = (score_sentences(model, tiny_tokenizer(adds), TEXTS) for adds in (False, True))
    np.testing.assert_array_equal(plain, adding)


def test_no_sentences_have_no_scores() -> None:
    assert score_sentences(tiny_bert(len(tiny_tokenizer())), tiny_tokenizer(), []).tolist() == []


def test_mean_and_temperature() -> None:
    model, tokenizer = tiny_bert(SIZES["vocab_size"]).double(), tiny_tokenizer()
    sums = score_sentences(model, tokenizer, TEXTS)
    means = score_sentences(model, tokenizer, TEXTS, ScoringConfig(reduction=Reduction.mean))
    lengths = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in TEXTS]
    np.testing.assert_allclose(means * lengths, sums)
    hot = score_sentences(model, tokenizer, TEXTS, ScoringConfig(temperature=2.0))
    model.cls.register_forward_hook(lambda module, args, logits: logits / 2)
    np.testing.assert_allclose(hot, score_sentences(model, tokenizer, TEXTS))


def test_within_word_l2r_hides_the_rest_of_the_word() -> None:
    model, tokenizer = tiny_bert(SIZES["vocab_size"]).double(), tiny_tokenizer()
    text = "the abcd sleeps"
    inner = tokenizer(text, add_special_tokens=False)
    words, ids = inner.word_ids(), [1, *inner["input_ids"], 2]
    assert words.count(1) == 4
    wanted = 0.0
    for i, word in enumerate(words):
        masked = list(ids)
        for j in range(i, len(words)):
            if words[j] == word:
                masked[j + 1] = tokenizer.mask_token_id
        logits = model(input_ids=torch.tensor([masked])).logits[0, i + 1]
        wanted += float(logits.log_softmax(-1)[ids[i + 1]])
    config = ScoringConfig(method=Method.within_word_l2r)
    assert score_sentences(model, tokenizer, [text], config)[0] == pytest.approx(wanted, rel=1e-12)
    assert score_sentences(model, tokenizer, [text])[0] != pytest.approx(wanted, rel=1e-3)


def test_causal_models_are_scored_left_to_right() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.bos_token = "[CLS]"
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=len(tokenizer), n_embd=16, n_layer=2, n_head=2, n_positions=40, bos_token_id=1)
    )
    model = model.double().eval()
    texts = ["the cat sleeps", "who sees the old dogs near a girl ?"]
    scores = score_sentences(model, tokenizer, texts, ScoringConfig(method=Method.causal, tokens_per_batch=20))
    for text, score in zip(texts, scores):
        ids = torch.tensor([[1, *tokenizer(text, add_special_tokens=False)["input_ids"]]])
        logits = model(input_ids=ids).logits.log_softmax(-1)[0, :-1]
        assert score == pytest.approx(float(logits.gather(1, ids[0, 1:, None]).sum()), rel=1e-12)


def test_rows_shared_by_good_and_bad_sentence_are_planned_once() -> None:
    tokenizer = tiny_tokenizer()

    def rows(*texts: str) -> int:
        return plan_rows(encode_sentences(tokenizer, texts)).n_rows

    assert rows("the cat sleeps") == 3
    assert rows("the cat sleeps", "the cat sleep") == 5
    assert rows("the cat sleeps", "the dog sleep") == 6
    assert rows("the cat sleeps", "the cat sleeps .") == 7


def test_no_batch_exceeds_the_budget_and_none_is_padded() -> None:
    plan = plan_rows(encode_sentences(tiny_tokenizer(), TEXTS))
    spans = plan.spans(40)
    assert sorted(row for start, stop in spans for row in range(start, stop)) == list(range(plan.n_rows))
    for start, stop in spans:
        batch = plan.batch(start, stop)
        assert batch["attention_mask"].all()
        assert batch["input_ids"].numel() <= max(40, batch["input_ids"].shape[1])


@pytest.mark.parametrize("name", list(MODELS))
def test_the_head_runs_at_the_wanted_positions_only(name: str) -> None:
    model = MODELS[name]()
    seen: list[int] = []
    head = model.get_output_embeddings()
    head.register_forward_hook(lambda module, args, output: seen.append(output.shape[:-1].numel()))
    logits_at = PositionLogits(model)
    ids, positions = torch.randint(5, 20, (4, 7)), torch.tensor([1, 9, 20])
    with torch.no_grad():
        wanted = model(input_ids=ids).logits.flatten(0, 1)[positions]
        for _ in range(2):
            torch.testing.assert_close(logits_at(ids, None, positions), wanted, rtol=1e-4, atol=1e-4)
    assert seen[-1] == 3


class MixingHead(BertForMaskedLM):
    """A head that looks at the whole sequence, so that it cannot be run at single positions."""

    def forward(self, input_ids, attention_mask=None):
        output = super().forward(input_ids=input_ids, attention_mask=attention_mask)
        output.logits = output.logits + output.logits.mean(dim=(0, 1), keepdim=True)
        return output


def test_head_that_mixes_positions_gets_all_positions() -> None:
    model = MixingHead(BertConfig(**SIZES, **WIDTH)).eval()
    logits_at = PositionLogits(model)
    ids, positions = torch.randint(5, 20, (4, 7)), torch.tensor([1, 9, 20])
    with torch.no_grad():
        wanted = model(ids).logits.flatten(0, 1)[positions]
        for _ in range(2):
            torch.testing.assert_close(logits_at(ids, None, positions), wanted)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_softmax_is_taken_in_float32(dtype: torch.dtype) -> None:
    logits = (20 * torch.randn(5, 3000)).to(dtype)
    slot, token = torch.tensor([0, 4, 4]), torch.tensor([1, 2, 2999])
    values = target_log_probs(logits, slot, token)
    assert values.dtype == torch.float32
    wanted = logits.double().log_softmax(-1)[slot, token]
    torch.testing.assert_close(values.double(), wanted, rtol=1e-6, atol=1e-5)


def test_mode_of_the_model_is_restored() -> None:
    model = tiny_bert(SIZES["vocab_size"]).train()
    score_sentences(model, tiny_tokenizer(), ["the cat"])
    assert model.training


def test_unscorable_sentences_are_named() -> None:
    model, tokenizer = tiny_bert(SIZES["vocab_size"]), tiny_tokenizer()
    with pytest.raises(DataError, match=r"the sentence ' \\t' has no tokens"):
        score_sentences(model, tokenizer, ["the cat", " \t"])
    with pytest.raises(DataError, match="has 42 tokens, the model takes 40"):
        score_sentences(model, tokenizer, ["the " * 40])
    tokenizer.mask_token = None
    with pytest.raises(ConfigError, match="no mask token"):
        score_sentences(model, tokenizer, ["the cat"])
    with pytest.raises(ConfigError, match="temperature is 0"):
        ScoringConfig(temperature=0)


def test_results_of_a_batch_are_not_views_of_torch_memory() -> None:
    """Small tensors kept between large ones that are freed cost a megabyte a batch in scattered memory."""
    tokenizer = tiny_tokenizer()
    plan = plan_rows(encode_sentences(tokenizer, ["the dog barks", "the cats sleep"]))
    spans = plan.spans(16)
    scorer = RowScorer(tiny_bert(len(tokenizer)).eval(), ScoringConfig())
    kept = _score_batches(scorer, plan, spans, list(range(len(spans))), ledger=None, progress=False)
    assert len(kept) == len(spans) > 1
    assert all(values.flags.owndata for values in kept.values())


@pytest.mark.parametrize("tokens_per_batch", [1, 16, 10_000])
def test_batches_ahead_of_their_results_keep_order_and_values(tokens_per_batch: int) -> None:
    """The queue of the GPU path; on a CPU it has no pinned memory and events."""
    scorer, plan = RowScorer(elc(), ScoringConfig()), plan_rows(encode_sentences(tiny_tokenizer(), TEXTS))
    spans = plan.spans(tokens_per_batch)
    wanted = [scorer.score(plan, span)[1].double().numpy() for span in spans]
    found = list(scorer._score_ahead(plan, spans))
    assert len(found) == len(spans)
    for one, other in zip(found, wanted):
        np.testing.assert_array_equal(one, other)
    assert list(scorer._score_ahead(plan, [])) == []


@pytest.mark.parametrize("where", ["preparation", "model"])
def test_failure_ahead_reaches_the_caller_and_ends_the_thread(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer, plan = RowScorer(elc(), ScoringConfig()), plan_rows(encode_sentences(tiny_tokenizer(), TEXTS))
    spans, before, calls = plan.spans(1), threading.active_count(), []
    whole = type(plan).batch

    def failing(*arguments: object) -> dict[str, torch.Tensor]:
        calls.append(1)
        if where == "preparation" and len(calls) == 7:
            raise ZeroDivisionError
        return whole(*arguments)

    monkeypatch.setattr(type(plan), "batch", failing)
    if where == "model":
        scorer.logits_at = lambda *_: 1 // 0
    with pytest.raises(ZeroDivisionError):
        list(scorer._score_ahead(plan, spans))
    assert len(calls) < len(spans)
    assert threading.active_count() == before


def test_default_batch_size_depends_on_the_device() -> None:
    model = elc()
    assert default_config(model).tokens_per_batch == 2_048
    assert default_config(model, "cuda:1").tokens_per_batch == 65_536
    assert default_config(model, "cuda") == ScoringConfig(tokens_per_batch=65_536)


def test_positions_are_projected_once_per_call_and_never_with_old_weights() -> None:
    model, tokenizer = elc(), tiny_tokenizer()
    projection, seen = model.transformer.layers[0].attention.in_proj_qk, []
    projection.register_forward_hook(lambda module, args, output: seen.append(args[0].dim()))
    first = score_sentences(model, tokenizer, TEXTS, ScoringConfig(tokens_per_batch=16))
    assert seen.count(2) == 1 < seen.count(3)
    with torch.no_grad():
        model.embedding.relative_embedding.add_(torch.randn_like(model.embedding.relative_embedding))
        projection.weight.mul_(3)
    changed = score_sentences(model, tokenizer, TEXTS, ScoringConfig(tokens_per_batch=16))
    assert seen.count(2) == 2
    assert np.abs(changed - first).max() > 1e-3
    np.testing.assert_allclose(changed, [reference_score(model, tokenizer, text) for text in TEXTS], rtol=1e-5)


def test_positions_are_not_reused_with_gradients_or_in_training() -> None:
    model, ids = elc(), torch.randint(5, 20, (2, 7))
    with reuse_positions(model):
        model(ids).logits.sum().backward()
        with torch.no_grad():
            model.train()(ids)
        assert all(layer.attention.projected == {} for layer in model.transformer.layers)
    assert all(layer.attention.projected is None for layer in model.transformer.layers)
    assert model.embedding.relative_embedding.grad.abs().max() > 0


def test_closing_the_queue_early_ends_its_thread() -> None:
    scorer, plan = RowScorer(elc(), ScoringConfig()), plan_rows(encode_sentences(tiny_tokenizer(), TEXTS))
    before = threading.active_count()
    scored = scorer._score_ahead(plan, plan.spans(1))
    next(scored)
    assert threading.active_count() == before + 1
    scored.close()
    assert threading.active_count() == before


def test_lack_of_gpu_memory_is_one_line() -> None:
    scorer, plan = RowScorer(elc(), ScoringConfig()), plan_rows(encode_sentences(tiny_tokenizer(), TEXTS))

    def full(*_: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("Tried to allocate 8 GiB")

    scorer.logits_at = full
    with pytest.raises(ConfigError, match="cpu has not enough memory for tokens_per_batch 8192; set a lower number"):
        list(scorer._score_ahead(plan, plan.spans(100)))


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("chunk", [1, 3000, 6001, 2**24])
def test_chunks_of_logits_change_no_bit(chunk: int, temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = (20 * torch.randn(5, 3000)).bfloat16()
    slot, token = torch.tensor([0, 4, 4, 2]), torch.tensor([1, 2, 2999, 7])
    wide = logits.float() / temperature
    wanted = wide[slot, token] - wide.logsumexp(-1)[slot]
    monkeypatch.setattr("elc_composer.evaluation.scoring.CHUNK", chunk)
    assert torch.equal(target_log_probs(logits, slot, token, temperature), wanted)


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-10), (torch.float32, 1e-4), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("tokens_per_batch", [1, 16, 65_536])
def test_scores_on_a_gpu_are_those_of_the_cpu(dtype: torch.dtype, rtol: float, tokens_per_batch: int) -> None:
    model, tokenizer, config = elc(), tiny_tokenizer(), ScoringConfig(tokens_per_batch=tokens_per_batch)
    wanted = score_sentences(model.double(), tokenizer, TEXTS, config)
    found = score_sentences(model.to("cuda", dtype), tokenizer, TEXTS, config)
    np.testing.assert_allclose(found, wanted, rtol=rtol)
    np.testing.assert_array_equal(found, score_sentences(model, tokenizer, TEXTS, config))


@pytest.mark.gpu
def test_failure_on_a_gpu_ends_the_thread() -> None:
    model, tokenizer, before = elc().cuda(), tiny_tokenizer(), threading.active_count()
    calls = []

    def fail(module: torch.nn.Module, args: object) -> None:
        calls.append(1)
        if len(calls) == 7:
            raise ZeroDivisionError

    handle = model.register_forward_pre_hook(fail)
    with pytest.raises(ZeroDivisionError):
        score_sentences(model, tokenizer, TEXTS, ScoringConfig(tokens_per_batch=1))
    assert threading.active_count() == before
    handle.remove()
    assert np.isfinite(score_sentences(model, tokenizer, TEXTS)).all()
