"""Record files: damaged records are left out, a damaged file costs a warning, written records can be read back."""

from __future__ import annotations

import errno
import json
import math
import warnings
from pathlib import Path
from typing import Any

import pytest

from elc_composer.callbacks import LayerWeightMonitor, LossGuard, MetricsFile
from elc_composer.callbacks.measuring.record_files import RecordFile, plain, read_record_file
from elc_composer.callbacks.metrics_file import read_metrics
from elc_composer.common.errors import DataError
from elc_composer.common.json_files import parse_json
from tests.callbacks.toys import ToyElc, trainer

DAMAGED = {
    "step is true": '{"step": true, "x": 1}',
    "step is text": '{"step": "3", "x": 1}',
    "step is a fraction": '{"step": 3.0, "x": 1}',
    "no step": '{"x": 1}',
    "number of 400 digits": '{"step": 3, "x": ' + "1" * 400 + "}",
    "number of 5000 digits": '{"step": 3, "x": ' + "1" * 5000 + "}",
    "step of 30 digits": '{"step": ' + "1" * 30 + "}",
    "900 levels": '{"step": 3, "x": ' + "[" * 900 + "]" * 900 + "}",
    "lone surrogate": '{"step": 3, "\\ud800": 1}',
    "no object": "[1]",
    "torn": '{"step": 3, "x',
    "no UTF-8": b'{"step": 3, "x": "\xff"}',
}


@pytest.mark.parametrize("name", list(DAMAGED))
def test_damaged_record_is_left_out(name: str, tmp_path: Path) -> None:
    path, line = tmp_path / "records.jsonl", DAMAGED[name]
    content = line if isinstance(line, bytes) else line.encode()
    path.write_bytes(b'{"step": 1, "x": 1}\n' + content + b'\n\n{"step": 4, "x": 2}\n')
    assert [record["step"] for record in read_record_file(path)] == [1, 4]
    assert [record["step"] for record in RecordFile(path).cut(4)] == [1, 4]
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 4]
    assert read_metrics(path) == {"x": [(1, 1.0), (4, 2.0)]}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": math.nan, "b": [math.inf, 1.5]}, {"a": None, "b": [None, 1.5]}),
        ({"metric\ud800": "text\udcff"}, {"metric?": "text?"}),
        (10**19, 1e19),
        (-(10**400), None),
        (2**63 - 1, 2**63 - 1),
        ((True, None, "ü"), [True, None, "ü"]),
    ],
)
def test_any_value_is_written_so_that_it_can_be_read(value: Any, expected: Any) -> None:
    assert plain(value) == expected
    assert parse_json(json.dumps(plain(value)), "test") == expected


def make_unreadable(path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "directory":
        path.mkdir()
        return
    path.write_text('{"step": 1}\n')
    read = Path.read_bytes

    def refuse(self: Path) -> bytes:
        if self == path:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", refuse)


@pytest.mark.parametrize("kind", ["directory", "unreadable"])
def test_file_that_cannot_be_read_costs_one_warning_and_stays(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "records.jsonl"
    make_unreadable(path, kind, monkeypatch)
    records = RecordFile(path)
    with pytest.warns(UserWarning, match=r"continues without .*records\.jsonl.* cannot be read"):
        assert records.cut(5) == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        records.replace([{"step": 2}])
        assert not records.append({"step": 3})
    assert path.is_dir() if kind == "directory" else path.stat().st_size == 12
    with pytest.raises(DataError, match=r"records\.jsonl cannot be read"):
        read_record_file(path)


@pytest.mark.parametrize("kind", ["directory", "unreadable"])
def test_run_continues_without_files_that_cannot_be_read(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_unreadable(tmp_path / "metrics.jsonl", kind, monkeypatch)
    make_unreadable(tmp_path / "layer_weights.jsonl", kind, monkeypatch)
    monitor = LayerWeightMonitor(interval="1ba", folder=str(tmp_path))
    run = trainer(ToyElc(), [monitor], steps=2, loggers=[MetricsFile(str(tmp_path / "metrics.jsonl"))])
    with pytest.warns(UserWarning, match="continues without"):
        run.fit()
    run.close()
    assert [record["step"] for record in monitor.history] == [0, 1, 2]


@pytest.mark.parametrize(
    "layers",
    [
        None,
        "text",
        [1],
        {},
        {"1": 1.0},
        {"1": ["0.5"]},
        {"1": [True]},
        {"1": []},
        {"1": [[0.5]]},
    ],
)
def test_resume_leaves_out_damaged_layer_weights(layers: Any, tmp_path: Path) -> None:
    whole = {"1": [1.0], "2": [0.5, None]}
    rows = [{"step": 0, "layers": whole}, {"step": 1, "layers": layers}, {"step": 1}]
    path = tmp_path / "layer_weights.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = trainer(ToyElc(), [], steps=2, save_folder=str(tmp_path / "c"), save_interval="1ba", max_duration="2ba")
    run.fit()
    run.close()
    monitor = LayerWeightMonitor(interval="1ba", folder=str(tmp_path))
    saved = next((tmp_path / "c").glob("ep*-ba2-rank0.pt"))
    resumed = trainer(ToyElc(), [monitor], steps=4, max_duration="3ba", load_path=str(saved))
    resumed.fit()
    resumed.close()
    assert [record["step"] for record in monitor.history] == [0, 2, 3]
    assert [record["step"] for record in read_record_file(path)] == [0, 2, 3]


def test_bad_batch_is_named_in_the_message_if_its_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "bad_batches.jsonl").mkdir()
    guard = LossGuard(folder=str(tmp_path))
    model = ToyElc(gradient_factor=0.0)
    run = trainer(model, [guard], steps=2)
    with pytest.warns(UserWarning, match="bad_batches"), pytest.raises(RuntimeError, match="ids of its samples are "):
        run.fit()
    run.close()
