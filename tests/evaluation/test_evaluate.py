"""The evaluate command: results, interruption and resumption, error messages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from elc_composer import evaluate as evaluate_module
from elc_composer.evaluate import evaluate, main, parser
from elc_composer.evaluation.minimal_pairs import read_minimal_pairs
from elc_composer.evaluation.scoring import RowScorer
from tests.evaluation.tiny import reference_score, tiny_bert, tiny_tokenizer, write_pairs
from tests.multirank.launch import launch


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    tokenizer = tiny_tokenizer()
    tiny_bert(len(tokenizer)).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def arguments(tmp_path: Path, model_folder: Path, *more: object) -> list[str]:
    folder = write_pairs(tmp_path / "pairs")
    out = tmp_path / "results" / "results.json"
    return [str(model_folder), "--minimal-pairs", str(folder), "--out", str(out), "--device", "cpu", *map(str, more)]


def read(tmp_path: Path) -> dict:
    return json.loads((tmp_path / "results" / "results.json").read_text())


def test_scores_of_every_pair_equal_a_plain_reference(tmp_path: Path, model_folder: Path) -> None:
    assert main(arguments(tmp_path, model_folder)) == 0
    rows = read(tmp_path)["pairs"]
    model = tiny_bert(len(tiny_tokenizer()))
    pairs = read_minimal_pairs(tmp_path / "pairs")
    assert [(row["paradigm"], row["pair_id"]) for row in rows] == [(pair.paradigm, pair.pair_id) for pair in pairs]
    for row, pair in zip(rows, pairs):
        assert row["score_good"] == pytest.approx(
            reference_score(model, tiny_tokenizer(), pair.sentence_good), rel=1e-5
        )
        assert row["score_bad"] == pytest.approx(reference_score(model, tiny_tokenizer(), pair.sentence_bad), rel=1e-5)
        assert row["credit"] == float(row["score_good"] > row["score_bad"])


def test_predictions_and_picture_are_written_and_nothing_else(tmp_path: Path, model_folder: Path) -> None:
    main(arguments(tmp_path, model_folder))
    names = {path.name for path in (tmp_path / "results").iterdir()}
    assert names == {"results.json", "results.predictions.json", "results.png"}
    predicted = json.loads((tmp_path / "results" / "results.predictions.json").read_text())["blimp"]
    rows = [row for row in read(tmp_path)["pairs"] if row["paradigm"] == "agreement"]
    assert [entry["id"] for entry in predicted["agreement"]["predictions"]] == [f"agreement_{i}" for i in range(5)]
    good = [pair.sentence_good for pair in read_minimal_pairs(tmp_path / "pairs") if pair.paradigm == "agreement"]
    chosen = [entry["pred"] for entry in predicted["agreement"]["predictions"]]
    assert [sentence == right for sentence, right in zip(chosen, good)] == [bool(row["credit"]) for row in rows]


def test_supplement_is_reported_separately(tmp_path: Path, model_folder: Path) -> None:
    extra = write_pairs(tmp_path / "extra", {"hypernym": [("the cat sees", "the cat see")]})
    main(arguments(tmp_path, model_folder, "--supplement", extra))
    sets = read(tmp_path)["sets"]
    assert {name: summary["pairs"] for name, summary in sets.items()} == {"blimp": 10, "supplement": 1}
    assert main([*arguments(tmp_path, model_folder), "--supplement", str(extra)]) == 0


def test_counts_unequal_lengths_and_unknown_tokens(tmp_path: Path, model_folder: Path) -> None:
    main(arguments(tmp_path, model_folder))
    summary = read(tmp_path)["sets"]["blimp"]
    assert summary["unequal_length_pairs"] == sum(
        row["tokens_good"] != row["tokens_bad"] for row in read(tmp_path)["pairs"]
    )
    assert summary["pairs_with_unk"] == 1
    assert summary["sentences_with_unk"] == 2
    assert summary["paradigms"]["order"]["pairs_with_unk"] == 1


@pytest.mark.parametrize(("interruption", "code"), [(KeyboardInterrupt(), 130), (SystemExit(143), 143)])
def test_interrupted_evaluation_is_resumed(
    tmp_path: Path,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    interruption: BaseException,
    code: int,
) -> None:
    command = arguments(tmp_path, model_folder, "--tokens-per-batch", 20)
    main(command)
    whole = (tmp_path / "results" / "results.json").read_text()
    (tmp_path / "results" / "results.json").unlink()

    runs: list[int] = []
    scored = RowScorer.score

    def interrupted(self: RowScorer, plan, span):
        if len(runs) == 4:
            raise interruption
        runs.append(span[0])
        return scored(self, plan, span)

    monkeypatch.setattr(RowScorer, "score", interrupted)
    assert main(command) == code
    assert "rerun the same command to resume" in capsys.readouterr().err
    assert not (tmp_path / "results" / "results.json").exists()

    # Threads may have begun them in another order than that of the batches, longest first.
    first, more = sorted(runs, reverse=True), []

    def counted(self: RowScorer, plan, span):
        more.append(span[0])
        return scored(self, plan, span)

    monkeypatch.setattr(RowScorer, "score", counted)
    # The interruption may cut a line short.
    partial = tmp_path / "results" / "results.json.partial" / "rank0.jsonl"
    lines = partial.read_text().splitlines(keepends=True)
    partial.write_text("".join(lines[:-1]) + lines[-1][:9])
    assert main(command) == 0
    assert set(first[:-1]).isdisjoint(more)
    assert first[-1] in more
    assert (tmp_path / "results" / "results.json").read_text() == whole


@pytest.mark.parametrize(
    "line",
    [
        '{"batch": 0, "log_probs": [-1.0]}',
        '{"batch": 0, "log_probs": 7}',
        '{"batch": 0, "log_probs": ["-1.0"]}',
        '{"batch": 0, "log_probs": [[-1.0]]}',
        '{"batch": true, "log_probs": [-1.0]}',
        '{"batch": 999, "log_probs": [-1.0]}',
        '{"batch": -1, "log_probs": [-1.0]}',
        '{"batch": ' + "9" * 400 + ', "log_probs": []}',
        '{"batch": 0, "log_probs": ' + "[" * 900 + "]" * 900 + "}",
        "[1]",
        "\x00",
    ],
)
def test_damaged_line_of_a_partial_evaluation_is_ignored(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    """One number in place of a batch's would be broadcast to all of its tokens."""
    command = arguments(tmp_path, model_folder, "--tokens-per-batch", 20)
    with monkeypatch.context() as patch:
        patch.setattr(evaluate_module.shutil, "rmtree", lambda *arguments, **settings: None)
        main(command)
    whole = (tmp_path / "results" / "results.json").read_text()
    partial = tmp_path / "results" / "results.json.partial" / "rank0.jsonl"
    lines = partial.read_text().splitlines()
    kept = [lines[0], *(each for each in lines[1:] if json.loads(each)["batch"] not in (0, 1)), line]
    partial.write_text("\n".join([*kept, next(each for each in lines[1:] if json.loads(each)["batch"] == 1)]) + "\n")
    scored, begun = RowScorer.score, []
    monkeypatch.setattr(RowScorer, "score", lambda self, plan, span: begun.append(span) or scored(self, plan, span))
    assert main(command) == 0
    assert len(begun) == 1
    assert (tmp_path / "results" / "results.json").read_text() == whole


def test_partial_evaluation_that_cannot_be_read_is_ignored(
    tmp_path: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = arguments(tmp_path, model_folder)
    (tmp_path / "results" / "results.json.partial" / "rank1.jsonl").mkdir(parents=True)
    assert main(command) == 0
    (tmp_path / "results" / "results.json.partial" / "rank0.jsonl").mkdir(parents=True)
    assert main(command) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_results_of_another_model_are_not_continued(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = arguments(tmp_path, model_folder, "--tokens-per-batch", 20)
    monkeypatch.setattr(evaluate_module.shutil, "rmtree", lambda *arguments, **settings: None)
    main(command)
    assert (tmp_path / "results" / "results.json.partial").is_dir()
    tiny_bert(len(tiny_tokenizer()), seed=1).save_pretrained(model_folder)
    main(command)
    model = tiny_bert(len(tiny_tokenizer()), seed=1)
    assert read(tmp_path)["pairs"][0]["score_good"] == pytest.approx(
        reference_score(model, tiny_tokenizer(), "the cat sleeps"), rel=1e-5
    )


def test_changed_config_with_equal_weights_is_not_resumed(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = arguments(tmp_path, model_folder)
    with monkeypatch.context() as patch:
        patch.setattr(evaluate_module.shutil, "rmtree", lambda *arguments, **settings: None)
        main(command)
    before = read(tmp_path)["pairs"][0]["score_good"]
    path = model_folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"layer_norm_eps": 0.5}))
    main(command)
    assert read(tmp_path)["pairs"][0]["score_good"] != pytest.approx(before, rel=1e-3)


def test_scores_are_kept_if_the_results_cannot_be_written(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, results: object) -> None:
        raise OSError(28, "No space left on device")

    command = arguments(tmp_path, model_folder)
    with monkeypatch.context() as patch:
        patch.setattr(evaluate_module, "write_results", full)
        assert main(command) == 2
    assert capsys.readouterr().err == "error: [Errno 28] No space left on device\n"
    monkeypatch.setattr(RowScorer, "score", None)
    assert main(command) == 0
    assert {path.name for path in (tmp_path / "results").iterdir() if path.is_dir()} == set()


def test_nonfinite_scores_are_refused(tmp_path: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny_bert(len(tiny_tokenizer()))
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight[tiny_tokenizer().convert_tokens_to_ids("boy")] = float("nan")
    model.save_pretrained(model_folder)
    assert main(arguments(tmp_path, model_folder)) == 2
    assert "agreement.jsonl:1: the scores are nan" in capsys.readouterr().err
    assert not (tmp_path / "results" / "results.json").exists()


def test_tokenizer_of_another_model_is_refused(
    tmp_path: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_bert(20).save_pretrained(model_folder)
    assert main(arguments(tmp_path, model_folder)) == 2
    assert "the model has 20 entries; use the model's own tokenizer" in capsys.readouterr().err


def test_output_path_is_checked_before_scoring(
    tmp_path: Path, model_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate_module, "load_model_and_tokenizer", None)
    (tmp_path / "a.json").mkdir()
    (tmp_path / "file").touch()
    for out, message in (
        ("a.json", "must be a JSON file"),
        ("a.png", "must be a JSON file"),
        ("file/a.json", "cannot be made"),
    ):
        assert main(arguments(tmp_path, model_folder, "--out", tmp_path / out)) == 2
        assert message in capsys.readouterr().err


def test_one_paradigm_is_not_scored_in_two_sets(
    tmp_path: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(tmp_path, model_folder, "--supplement", tmp_path / "pairs")) == 2
    assert "both hold agreement" in capsys.readouterr().err


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_takes_models_in_other_types(tmp_path: Path, model_folder: Path, dtype: str) -> None:
    options = parser().parse_args(arguments(tmp_path, model_folder, "--dtype", dtype))
    rows = evaluate(options)["pairs"]
    model = tiny_bert(len(tiny_tokenizer())).double()
    error = 1e-10 if dtype == "float64" else 0.1
    assert rows[0]["score_good"] == pytest.approx(reference_score(model, tiny_tokenizer(), "the cat sleeps"), rel=error)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--temperature", "0"], "temperature is 0.0"),
        (["--temperature", "inf"], "temperature is inf"),
        (["--tokens-per-batch", "-1"], "tokens_per_batch is -1"),
        (["--method", "within_word_l2r", "--supplement", "nowhere"], "nowhere does not exist"),
        (["--device", "gpu"], "gpu is not a device"),
    ],
)
def test_bad_options_end_with_one_line(
    tmp_path: Path, model_folder: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert main(arguments(tmp_path, model_folder, *more)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_sentences_that_are_too_long_are_named(
    tmp_path: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_pairs(tmp_path / "long", {"agreement": [("the cat", "a cat"), ("the " * 50, "a")]})
    assert main([str(model_folder), "--minimal-pairs", str(folder), "--out", str(tmp_path / "r.json")]) == 2
    assert "agreement.jsonl:2: the sentence" in (error := capsys.readouterr().err)
    assert "52 tokens, the model takes 40" in error


def test_folder_without_a_model_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_pairs(tmp_path / "pairs")
    assert main([str(tmp_path), "--minimal-pairs", str(folder), "--out", str(tmp_path / "r.json")]) == 2
    assert "is not a transformers folder" in capsys.readouterr().err


@pytest.mark.multirank
def test_two_ranks_write_the_file_of_one(tmp_path: Path, model_folder: Path) -> None:
    commands, files = [], []
    for tokens_per_batch in (20, 100_000):
        folder = tmp_path / str(tokens_per_batch)
        folder.mkdir()
        commands.append(arguments(folder, model_folder, "--tokens-per-batch", tokens_per_batch))
        main(commands[-1])
        files.append(folder / "results" / "results.json")
    of_one = [file.read_text() for file in files]
    for file in files:
        file.unlink()
    launch(Path(__file__).parent / "jobs" / "evaluate_job.py", *map(json.dumps, commands))
    assert [file.read_text() for file in files] == of_one
    assert not any(file.with_name("results.json.partial").exists() for file in files)
