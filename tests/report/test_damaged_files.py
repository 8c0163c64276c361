"""Damaged record files cost the damaged records, not the page; a damaged file that is needed gives one line."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from elc_composer.report.__main__ import main
from elc_composer.report.page import render
from elc_composer.report.run_reader import read_run, read_runs
from elc_composer.report.summaries import flat
from tests.report.page_parser import Page, events_of, section
from tests.report.synthetic import write_run

NESTED = "[" * 900 + "]" * 900
NUMBERS = {"400 digits": "1" * 400, "5,000 digits": "1" * 5000, "negative": "-" + "9" * 400}
RECORD_FILES = ("metrics.jsonl", "layer_weights.jsonl", "mixed_inputs.jsonl", "weight_histograms.jsonl")


def append(path: Path, *lines: str) -> None:
    with path.open("a") as file:
        file.writelines(line + "\n" for line in lines)


def damaged_lines() -> dict[str, str]:
    """Lines that are damaged in any record file."""
    lines = {f"step of {name}": f'{{"step": {number}, "layers": {{}}}}' for name, number in NUMBERS.items()}
    lines |= {f"value of {name}": f'{{"step": 95, "x": {number}}}' for name, number in NUMBERS.items()}
    return lines | {
        "900 levels": f'{{"step": 95, "x": {NESTED}}}',
        "900 mappings": '{"a": ' * 900 + "1" + "}" * 900,
        "surrogate in a name": '{"step": 95, "loss/\\ud800": 1.0, "layers": {"1": [1.0]}, "units": {}}',
        "step is true": '{"step": true, "loss/train/total": 3}',
        "step is a float": '{"step": 95.0, "loss/train/total": 3}',
        "step is negative": '{"step": -1, "loss/train/total": 3}',
        "step beyond 2**53": '{"step": 9007199254740993, "loss/train/total": 3}',
        "no object": "[1, 2]",
        "invalid UTF-8": '{"step": 95, "loss/train/total": 3, "x": "\udcff"}',
    }


@pytest.mark.parametrize("file", [*RECORD_FILES, "events.jsonl"])
@pytest.mark.parametrize("line", damaged_lines().values(), ids=damaged_lines())
def test_a_damaged_record_costs_that_record(line: str, file: str, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=30)
    append(run / "events.jsonl", '{"event": "started", "step": 0, "text": "on 1 rank"}')
    whole = read_run(run)
    with (run / file).open("ab") as out:
        out.write(line.encode("utf-8", "surrogateescape") + b"\n")
    append(run / file, json.dumps({"step": 20, "event": "resumed"}) if file == "events.jsonl" else "")
    found = read_run(run)
    assert found.metrics == whole.metrics
    assert (found.layer_weights, found.mixed_inputs) == (whole.layer_weights, whole.mixed_inputs)
    assert found.histograms == whole.histograms
    assert found.events[: len(whole.events)] == whole.events
    assert any(f"{file}" in text for kind in ("fault", "note") for _, text in events_of(found, kind))


def test_the_page_of_damaged_records_is_written(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    for file in (*RECORD_FILES, "events.jsonl"):
        append(run / file, *(line for line in damaged_lines().values() if "\udcff" not in line))
        for number in NUMBERS.values():
            append(run / file, f'{{"step": 95, "loss/train/total": {number}, "layers": {{"1": [{number}]}}}}')
    assert main([str(run)]) == 0
    assert "damaged record(s) left out" in section((run / "report.html").read_text(), "events")


def test_records_of_another_shape_are_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    odd: dict[str, list[Any]] = {
        "layer_weights.jsonl": [{"1": 5}, {}, {"1": []}, {"1": ["x"]}, 3],
        "mixed_inputs.jsonl": [{"1": [1.0]}, {"1": {"norm": 2.0}}, {"1": {"contributions": []}}],
        "weight_histograms.jsonl": [
            {"a": {}},
            {"a": {"low": 0, "high": None, "counts": [1]}},
            {"a": {"low": 0, "high": 1, "counts": [-1]}},
            {"a": {"low": 0, "high": float("inf"), "counts": [1]}},
            {"a": [1]},
            {},
        ],
    }
    whole = Page(render(read_runs([run]))).data
    for step, (name, rows) in enumerate(odd.items(), start=95):
        key = "units" if name.startswith("weight") else "layers"
        append(run / name, *(json.dumps({"step": step + i, key: row}) for i, row in enumerate(rows)))
    found = Page(render(read_runs([run]))).data
    assert (found["heatmaps"], found["histograms"]) == (whole["heatmaps"], whole["histograms"])
    assert dict(events_of(read_run(run), "fault"))[99] == "weight_histograms.jsonl: 6 damaged record(s) left out"
    assert main([str(run), "--png", str(tmp_path / "png"), "--csv", str(tmp_path / "csv")]) == 0


def test_an_incomplete_last_line_is_noted(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=60)
    append(run / "metrics.jsonl", '{"step": 60, "loss/train/to')
    append(run / "layer_weights.jsonl", '{"step": 60, "layers": {"1": [1.')
    found = read_run(run)
    assert found.step == 59
    assert found.layer_weights[-1]["step"] == 50
    text = render([found])
    assert "not finished" in section(text, "overview")
    assert "the last line of metrics.jsonl is incomplete" in section(text, "events")


@pytest.mark.parametrize("file", [*RECORD_FILES[1:], "events.jsonl"])
def test_a_directory_in_place_of_a_record_file_is_reported(file: str, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / file).unlink(missing_ok=True)
    (run / file).mkdir()
    assert main([str(run)]) == 0
    assert f"{file} cannot be read (Is a directory)" in section((run / "report.html").read_text(), "events")


@pytest.mark.parametrize("file", ["layer_weights.jsonl", "events.jsonl", "log-rank0.txt"])
def test_an_unreadable_file_is_left_out(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "run")
    append(run / file, "{}")
    deny(monkeypatch, run / file)
    assert main([str(run)]) == 0
    if file != "log-rank0.txt":
        assert "cannot be read (Permission denied)" in section((run / "report.html").read_text(), "events")


@pytest.mark.parametrize("file", ["metrics.jsonl", "config.yaml"])
def test_an_unreadable_file_that_is_needed_is_one_line(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run")
    deny(monkeypatch, run / file)
    assert main([str(run)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{file} cannot be read (Permission denied)" in line


def deny(monkeypatch: pytest.MonkeyPatch, denied: Path) -> None:
    """Reading the file fails, also for the user root, whom permissions do not stop."""
    opened: Callable[..., Any] = Path.open

    def open_or_fail(self: Path, *arguments: Any, **more: Any) -> Any:
        if self == denied:
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, *arguments, **more)

    monkeypatch.setattr(Path, "open", open_or_fail)


@pytest.mark.parametrize(
    "config",
    [
        "a: " + NESTED,
        "a: &a [*a]",
        'a: !!int ""',
        "a: !!timestamp x",
        "a: [1",
        "- 1",
        "a: \x00",
    ],
    ids=["900 levels", "cycle", "no int", "no time", "open", "list", "null byte"],
)
def test_an_invalid_config_is_one_line(config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run")
    (run / "config.yaml").write_text(config)
    assert main([str(run)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "config.yaml is not" in line


@pytest.mark.parametrize(
    "config",
    [
        f"max_steps: 0x{'f' * 5000}",
        f"max_steps: {'1' * 5000}",
        'run_name: "a\\ud800b"',
        'run_name: "a\\0b"',
        f"max_steps: {'1' * 400}",
        f"run_name: {'1' * 400}",
        f"model: {{num_hidden_layers: {'1' * 400}, hidden_size: [2], vocab_size: 3}}",
        'data: {streams: [{local: "a\\0b"}, {local: [1]}, {remote: "s3://bucket/x"}, 5]}',
        'evaluators: {minimal_pairs: [{label: toy, path: "a\\0b"}, {label: toy, path: 3}, 5]}',
        'checkpoints: {save_folder: "a\\0b"}',
        "stages: [{fraction: .inf}, {fraction: .nan}]\nmax_steps: 5",
    ],
)
def test_odd_values_in_a_config_do_not_stop_the_page(config: str, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "config.yaml").write_text(config)
    assert main([str(run)]) == 0
    assert "Training of" in (run / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("manifest", "problem"),
    [
        (NESTED, "is not valid JSON"),
        (f'{{"outputs": {{"x": {{"samples": {"1" * 5000}}}}}}}', "is not valid JSON"),
        ('{"settings": {"a": "\\ud800"}}', "is not valid JSON"),
        ("[1]", "has an unexpected structure"),
        ('{"outputs": [1]}', "has an unexpected structure"),
        ('{"outputs": {"x": 1}}', "has an unexpected structure"),
        ('{"outputs": {"x": {"shards": 1}}}', "has an unexpected structure"),
        ('{"sources": ["x"]}', "has an unexpected structure"),
        ('{"tokenizer": [1]}', "has an unexpected structure"),
        ('{"settings": [1]}', "has an unexpected structure"),
        (None, "cannot be read (No such file or directory)"),
    ],
)
def test_a_damaged_manifest_is_reported(manifest: str | None, problem: str, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "data" / "manifest.json").unlink()
    if manifest is not None:
        (run / "data" / "manifest.json").write_text(manifest)
    data = section(render(read_runs([run])), "data")
    assert f"manifest.json {problem}" in data


@pytest.mark.parametrize(
    "line",
    [
        NESTED,
        f'{{"UID": {"1" * 5000}}}',
        '{"UID": "\\ud800"}',
        '{"UID": ["x"]}',
        '{"UID": "x", "linguistics_term": ["y"]}',
        "[1]",
        "",
    ],
)
def test_a_damaged_file_of_pairs_costs_its_phenomenon(line: str, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "pairs" / "npi_scope.jsonl").write_text(line + "\n")
    (run / "pairs" / "folder.jsonl").mkdir()
    text = section(render(read_runs([run])), "pairs")
    assert ">npi scope<" in text
    assert ">other<" in text or ">npi licensing<" in text


def test_a_config_of_any_depth_is_flattened() -> None:
    deep: Any = 1
    for _ in range(3 * sys.getrecursionlimit()):
        deep = [deep]
    assert list(flat({"a": {"b": [None, {}], "c": 1}})) == ["a.b.0", "a.b.1", "a.c"]
    assert list(flat(deep).values()) == ["1"]


def test_huge_numbers_reach_the_page_as_gaps_or_numbers(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    append(
        run / "metrics.jsonl", '{"step": 100, "loss/train/total": 1e999}', '{"step": 101, "loss/train/total": 1e308}'
    )
    largest = '{"step": 102, "loss/train/total": 1.7976931348623157e308, "gradient/norm": 1e200}'
    append(run / "metrics.jsonl", largest)
    values = Page(render(read_runs([run]))).curves("loss")[0]["y"]
    assert values[100] is None
    assert values[101] is None
    assert values[102] is None


def test_null_and_infinity_are_gaps(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    lines = ['{"step": 0, "loss/train/total": 2.0, "a": Infinity}', '{"step": 1, "loss/train/total": NaN, "a": 1}']
    (run / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 2, "loss/train/total": 1.0}']))
    found = read_run(run)
    assert found.metrics["loss/train/total"].values == [2.0, None, 1.0]
    assert found.metrics["a"].values == [None, 1.0]
    assert "loss/train/total: not finite at 1 of 3 logged steps" in dict(events_of(found, "fault"))[1]
    assert "1.5" in section(render([found]), "overview")


def test_line_separators_inside_a_record_do_not_split_it(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    append(run / "events.jsonl", '{"event": "note", "step": 1, "text": "a\u2028b\x85c"}')
    assert [event.text for event in read_run(run).events] == ["a\u2028b\x85c"]


def test_names_that_are_not_utf8_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run\udcff", name="")
    assert main([str(run), "--csv", str(tmp_path / "csv"), "--png", str(tmp_path / "png")]) == 0
    assert "run?" in capsys.readouterr().out
    with (tmp_path / "csv" / "metrics.csv").open() as file:
        assert next(csv.DictReader(file))["run"] == "run?"


@pytest.mark.parametrize("values", [(1.7e308,), (1e308, -1e308)])
def test_numbers_that_no_axis_can_span_cost_no_picture(values: tuple[float, ...], tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=30)
    for index, value in enumerate(values):
        append(
            run / "metrics.jsonl", json.dumps({"step": 95 + index, "loss/train/total": value, "gradient/norm": value})
        )
    assert main([str(run), "--png", str(tmp_path / "pictures")]) == 0
    assert list((tmp_path / "pictures").glob("*.png"))


def test_aliases_that_multiply_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", steps=3)
    levels = [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, 9)]
    (run / "config.yaml").write_text("\n".join(["a0: &a0 [1]", *levels]))
    assert main([str(run)]) == 2
    assert "config.yaml is not valid YAML" in capsys.readouterr().err
