from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from composer import ComposerModel, Trainer
from composer.loggers import InMemoryLogger
from torch.utils.data import DataLoader
from transformers import BertForMaskedLM

from elc_composer.common.errors import ConfigError, DataError
from elc_composer.evaluation.config import MinimalPairsConfig, ScoringConfig, Ties
from elc_composer.evaluation.in_training.composer_models import with_minimal_pairs
from elc_composer.evaluation.in_training.evaluators import MinimalPairEvaluators, minimal_pair_evaluators
from elc_composer.evaluation.minimal_pairs import read_minimal_pairs
from tests.evaluation.tiny import PHENOMENON, reference_score, tiny_bert, tiny_tokenizer, write_pairs


class PlainModel(ComposerModel):
    """A ComposerModel that knows nothing of minimal pairs."""

    def __init__(self, model: BertForMaskedLM) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch):
        return self.model(**batch)

    def loss(self, outputs, batch):
        return outputs.loss


def loader(batches: int = 6) -> DataLoader:
    ids = torch.randint(5, 20, (batches * 2, 6), generator=torch.Generator().manual_seed(0))
    return DataLoader([{"input_ids": row, "labels": row} for row in ids], batch_size=2)


def trainer(built: MinimalPairEvaluators, model: BertForMaskedLM | None = None, **changes) -> Trainer:
    taught = with_minimal_pairs(PlainModel(model or tiny_bert(len(tiny_tokenizer()))), built.metrics)
    settings = {"max_duration": "6ba", "loggers": [InMemoryLogger()], "progress_bar": False, "run_name": "run"}
    return Trainer(
        model=taught,
        optimizers=torch.optim.SGD(taught.parameters(), lr=0.5),
        train_dataloader=loader(),
        eval_dataloader=built.evaluators,
        device="cpu",
        **{**settings, **changes},
    )


def logged(run: Trainer, name: str) -> list[tuple[int, float]]:
    data = run.logger.destinations[0].data
    return [(time.batch.value, float(value)) for time, value in data.get(name, [])]


def expected(model: BertForMaskedLM, folder: Path) -> dict[str, float]:
    tokenizer = tiny_tokenizer()
    right: dict[str, list[bool]] = {}
    for pair in read_minimal_pairs(folder):
        good, bad = (reference_score(model, tokenizer, text) for text in (pair.sentence_good, pair.sentence_bad))
        right.setdefault(pair.paradigm, []).append(good > bad)
    paradigms = {name: sum(values) / len(values) for name, values in right.items()}
    pooled = right["reflexive"] + right["order"]
    phenomena = {"number": paradigms["agreement"], "binding_of_anaphors": sum(pooled) / len(pooled)}
    assert set(phenomena) == set(PHENOMENON.values())
    everything = [value for values in right.values() for value in values]
    return {
        **paradigms,
        **phenomena,
        "overall": sum(paradigms.values()) / 3,
        "phenomena": sum(phenomena.values()) / 2,
        "micro": sum(everything) / len(everything),
    }


@pytest.mark.parametrize("tokens_per_batch", [1, 100, 10_000])
def test_logs_the_accuracies_of_a_plain_reference(tmp_path: Path, tokens_per_batch: int) -> None:
    folder = write_pairs(tmp_path / "pairs")
    config = MinimalPairsConfig(
        path=str(folder), label="tiny", scoring=ScoringConfig(tokens_per_batch=tokens_per_batch)
    )
    run = trainer(minimal_pair_evaluators([config], tiny_tokenizer()))
    run.eval()
    want = expected(tiny_bert(len(tiny_tokenizer())), folder)
    assert {name: logged(run, f"metrics/tiny/{name}")[0][1] for name in want} == pytest.approx(want)
    names = {name for name in run.logger.destinations[0].data if name.startswith("metrics/")}
    assert names == {f"metrics/tiny/{name}" for name in want}


def test_several_sets_keep_their_names_and_numbers_apart(tmp_path: Path) -> None:
    first = write_pairs(tmp_path / "first")
    second = write_pairs(tmp_path / "second", {"agreement": [("the cat sleeps", "the cat sleep")]})
    configs = [MinimalPairsConfig(path=str(first), label="one"), MinimalPairsConfig(path=str(second), label="two")]
    run = trainer(minimal_pair_evaluators(configs, tiny_tokenizer()))
    run.eval()
    model = tiny_bert(len(tiny_tokenizer()))
    scores = [reference_score(model, tiny_tokenizer(), text) for text in ("the cat sleeps", "the cat sleep")]
    assert logged(run, "metrics/two/overall")[0][1] == float(scores[0] > scores[1])
    want = expected(model, first)
    assert logged(run, "metrics/one/overall")[0][1] == pytest.approx(want["overall"])
    assert logged(run, "metrics/one/agreement")[0][1] == pytest.approx(want["agreement"])
    assert not logged(run, "metrics/two/reflexive")


@pytest.mark.parametrize(("ties", "accuracy"), [(Ties.half, 0.5), (Ties.good, 1.0), (Ties.bad, 0.0)])
def test_a_tie_counts_as_configured(tmp_path: Path, ties: Ties, accuracy: float) -> None:
    # Both sentences are the same tokens.
    folder = write_pairs(tmp_path / "pairs", {"agreement": [("the cat ü", "the  cat ß")]})
    config = MinimalPairsConfig(path=str(folder), label="tiny", ties=ties)
    run = trainer(minimal_pair_evaluators([config], tiny_tokenizer()))
    run.eval()
    assert logged(run, "metrics/tiny/overall") == [(0, accuracy)]


def test_scores_that_are_no_numbers_are_no_accuracy(tmp_path: Path) -> None:
    config = MinimalPairsConfig(path=str(write_pairs(tmp_path / "pairs")), label="tiny")
    tokenizer = tiny_tokenizer()
    model = tiny_bert(len(tokenizer))
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight[tokenizer.convert_tokens_to_ids("who")] = float("nan")
        model.cls.predictions.decoder.weight = torch.nn.Parameter(
            torch.randn_like(model.cls.predictions.decoder.weight)
        )
    run = trainer(minimal_pair_evaluators([config], tokenizer), model)
    run.eval()
    found = {name: logged(run, f"metrics/tiny/{name}")[0][1] for name in ("order", "overall", "agreement")}
    assert math.isnan(found["order"])
    assert math.isnan(found["overall"])
    assert 0 <= found["agreement"] <= 1


def test_a_subset_is_the_same_each_time(tmp_path: Path) -> None:
    folder = write_pairs(tmp_path / "pairs")
    config = MinimalPairsConfig(path=str(folder), subset_per_paradigm=2)
    batches = [
        list(minimal_pair_evaluators([config], tiny_tokenizer()).evaluators[0].dataloader.dataloader) for _ in range(2)
    ]
    assert sum(len(batch["pair_paradigm"]) for batch in batches[0]) == 6
    assert all(torch.equal(a["input_ids"], b["input_ids"]) for a, b in zip(*batches))


def test_a_sentence_of_several_pairs_and_a_common_context_are_run_once(tmp_path: Path) -> None:
    rows = {"agreement": [("the cat sleeps", "the cat sleep"), ("the cat sleeps", "a dog sees the boy")]}
    config = MinimalPairsConfig(
        path=str(write_pairs(tmp_path / "pairs", rows)), scoring=ScoringConfig(tokens_per_batch=1)
    )
    (batch,) = minimal_pair_evaluators([config], tiny_tokenizer()).evaluators[0].dataloader.dataloader
    # 3 for the first sentence, 2 more for the second ("the cat [MASK]" is common), 5 for the third.
    assert len(batch["input_ids"]) == 10


@pytest.mark.parametrize(("interval", "batches"), [("2ba", [2, 4, 6]), ("4ba", [4, 6]), ("1ep", [6]), ("6ba", [6])])
def test_evaluates_at_the_interval_and_at_the_end_once(tmp_path: Path, interval: str, batches: list[int]) -> None:
    config = MinimalPairsConfig(path=str(write_pairs(tmp_path / "pairs")), eval_interval=interval)
    run = trainer(minimal_pair_evaluators([config], tiny_tokenizer()))
    run.fit()
    assert [batch for batch, _ in logged(run, "metrics/blimp/overall")] == batches


@pytest.mark.parametrize("stop", [2, 3])
def test_resuming_neither_repeats_nor_skips_an_evaluation(tmp_path: Path, stop: int) -> None:
    config = MinimalPairsConfig(path=str(write_pairs(tmp_path / "pairs")), eval_interval="2ba")

    def build(**changes) -> Trainer:
        return trainer(minimal_pair_evaluators([config], tiny_tokenizer()), max_duration="1ep", **changes)

    whole = build()
    whole.fit()
    first = build(save_folder=str(tmp_path / "saved"), save_interval="1ba")
    first.fit()
    second = build(load_path=str(tmp_path / "saved" / f"ep0-ba{stop}-rank0.pt"))
    second.fit()
    wanted = logged(whole, "metrics/blimp/overall")
    assert [batch for batch, _ in wanted] == [2, 4, 6]
    assert logged(second, "metrics/blimp/overall") == [entry for entry in wanted if entry[0] > stop]


def test_resuming_after_the_last_batch_does_not_evaluate_it_again(tmp_path: Path) -> None:
    config = MinimalPairsConfig(path=str(write_pairs(tmp_path / "pairs")), eval_interval="2ba")
    built = minimal_pair_evaluators([config], tiny_tokenizer())
    trainer(built, max_duration="1ep", save_folder=str(tmp_path / "saved"), save_interval="1ba").fit()
    again = minimal_pair_evaluators([config], tiny_tokenizer())
    run = trainer(again, max_duration="1ep", load_path=str(tmp_path / "saved" / "ep0-ba6-rank0.pt"))
    run.fit()
    assert logged(run, "metrics/blimp/overall") == []


def test_training_is_not_touched_by_evaluating(tmp_path: Path) -> None:
    config = MinimalPairsConfig(path=str(write_pairs(tmp_path / "pairs")), eval_interval="1ba")
    built = minimal_pair_evaluators([config], tiny_tokenizer())
    with_evaluation = trainer(built)
    with_evaluation.fit()
    without = trainer(MinimalPairEvaluators([], {}))
    without.fit()
    for name, value in without.state.model.state_dict().items():
        assert torch.equal(value, with_evaluation.state.model.state_dict()[name]), name


def test_names_what_is_wrong(tmp_path: Path) -> None:
    folder = write_pairs(
        tmp_path / "pairs", {"agreement": [("the cat sleeps", "the cat sleep"), ("the cat", "the " * 9)]}
    )
    config = MinimalPairsConfig(path=str(folder))
    with pytest.raises(ConfigError, match="label 'blimp'"):
        minimal_pair_evaluators([config, config], tiny_tokenizer())
    with pytest.raises(DataError, match=r"agreement.jsonl:2: .* has 11 tokens, the model takes 10"):
        minimal_pair_evaluators([config], tiny_tokenizer(), max_length=10)
    with pytest.raises(ConfigError, match="'blimp' has no path"):
        minimal_pair_evaluators([MinimalPairsConfig()], tiny_tokenizer())
    with pytest.raises(ConfigError, match="subset_per_paradigm is 0"):
        MinimalPairsConfig(path=str(folder), subset_per_paradigm=0)
    with pytest.raises(ConfigError, match="eval_interval is 'often'"):
        minimal_pair_evaluators([config], tiny_tokenizer(), eval_interval="often")
