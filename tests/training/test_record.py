"""The files that describe a run: damage costs a record or one line, and a full disk is reported."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from elc_composer.common.errors import ConfigError, DataError
from elc_composer.common.strict_yaml import to_yaml
from elc_composer.data.config import DataConfig, StreamConfig
from elc_composer.training.checks import check_callbacks
from elc_composer.training.config import load_config
from elc_composer.training.events import EventLog
from elc_composer.training.metadata import run_metadata, write_metadata
from elc_composer.training.record import read_skipped, save_run_files, write_skipped
from elc_composer.training.same_run import check_same_run
from tests.conftest import ROOT

CONFIG = ROOT / "yamls" / "quickstart.yaml"


@pytest.mark.parametrize(
    "content",
    [
        *(
            b"",
            b"seed: [",
            b"\xff\xfe",
            b"- 1",
            b"5",
            b"# nothing\n",
            b"a: " + b"[" * 900,
            b"a: &a [*a]",
            b'a: "\\ud800',
        ),
        b"a: &a [1]\nb: &b [*a, *a]\n" + b"".join(b"%d: &b [*b, *b]\n" % number for number in range(40)),
    ],
    ids=range(10),
)
def test_a_damaged_config_does_not_stop_a_resume(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "config.yaml").write_bytes(content)
    check_same_run(load_config(CONFIG, [f"run_folder={tmp_path}"]))


def test_a_folder_in_place_of_the_config_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "config.yaml").mkdir()
    check_same_run(load_config(CONFIG, [f"run_folder={tmp_path}"]))
    assert "are not compared" in caplog.text
    assert "config.yaml cannot be read (Is a directory)" in caplog.text


@pytest.mark.parametrize(
    "wrong", ["stages: 5", "stages: [5]", "model: 5", "data: [1]", "data: {streams: 5}", "seed: []"]
)
def test_a_config_of_another_shape_stops_a_resume_in_one_line(wrong: str, tmp_path: Path) -> None:
    config = load_config(CONFIG, [f"run_folder={tmp_path}"])
    kept = to_yaml(config).splitlines(True)
    key = wrong.split(":")[0]
    start = next(number for number, line in enumerate(kept) if line.startswith(f"{key}:"))
    end = next(number for number, line in enumerate(kept) if number > start and line[0].isalpha())
    (tmp_path / "config.yaml").write_text("".join([*kept[:start], wrong + "\n", *kept[end:]]))
    told = "holds a run with another seed" if key == "seed" else r"config\.yaml is damaged; repair it, or delete it"
    with pytest.raises(ConfigError, match=told):
        check_same_run(config)


@pytest.mark.parametrize("lack", ["checkpoints.autoresume=false", "checkpoints.save_folder=null"])
def test_going_back_needs_checkpoints(lack: str) -> None:
    """Without checkpoints, the run would start again from the first step."""
    roll_back = "callbacks.loss_guard.on_bad_loss=roll_back"
    check_callbacks(load_config(CONFIG, [roll_back]))
    check_callbacks(load_config(CONFIG, [lack]))
    with pytest.raises(ConfigError, match=r"roll_back resumes from .* needs checkpoints\.autoresume"):
        check_callbacks(load_config(CONFIG, [roll_back, lack]))


def test_skipped_steps_are_read_back(tmp_path: Path) -> None:
    assert read_skipped(tmp_path) == set()
    write_skipped(tmp_path, {7, 5})
    assert read_skipped(tmp_path) == {5, 7}


@pytest.mark.parametrize(
    "content",
    [
        "[5,",
        "[true]",
        "[5.0]",
        '["5"]',
        "[-1]",
        "5",
        "null",
        "{}",
        f"[{'9' * 400}]",
        f"[{'9' * 5000}]",
        "[" * 900 + "]" * 900,
    ],
    ids=range(11),
)
def test_damaged_skipped_steps_stop_the_run_in_one_line(content: str, tmp_path: Path) -> None:
    (tmp_path / "skipped_steps.json").write_text(content)
    with pytest.raises(
        DataError, match=r"skipped_steps\.json .* must be a JSON list of the skipped steps; .* events\.jsonl"
    ) as refused:
        read_skipped(tmp_path)
    assert "\n" not in str(refused.value)


def test_a_folder_in_place_of_the_skipped_steps_is_named(tmp_path: Path) -> None:
    (tmp_path / "skipped_steps.json").mkdir()
    with pytest.raises(DataError, match=r"skipped_steps\.json cannot be read \(Is a directory\)"):
        read_skipped(tmp_path)


@pytest.mark.parametrize(
    "content",
    ["{", "[1]", '{"earlier": 5}', '{"a": ' + "9" * 5000 + "}", '{"a": ' * 900, '{"a": "\\ud800"}', "null"],
    ids=range(7),
)
def test_damaged_metadata_is_replaced(content: str, tmp_path: Path) -> None:
    (tmp_path / "metadata.json").write_text(content)
    write_metadata(tmp_path, DataConfig())
    written = json.loads((tmp_path / "metadata.json").read_text())
    assert written["ranks"] == 1
    assert all(isinstance(each, dict) for each in written["earlier"])


def test_metadata_of_earlier_processes_is_kept(tmp_path: Path) -> None:
    write_metadata(tmp_path, DataConfig())
    write_metadata(tmp_path, DataConfig())
    assert json.loads((tmp_path / "metadata.json").read_text())["earlier"] == []
    changed = json.loads((tmp_path / "metadata.json").read_text())
    changed["ranks"] = 8
    (tmp_path / "metadata.json").write_text(json.dumps(changed))
    write_metadata(tmp_path, DataConfig())
    assert [each["ranks"] for each in json.loads((tmp_path / "metadata.json").read_text())["earlier"]] == [8]


def test_a_manifest_that_cannot_be_read_does_not_stop_the_run(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").mkdir()
    data = run_metadata(DataConfig(streams=[StreamConfig(local=str(tmp_path))]))["data"]
    assert data == [{"stream": str(tmp_path), "manifest_sha256": None}]


def test_events_are_utf8_whatever_a_path_holds(tmp_path: Path) -> None:
    EventLog(tmp_path).note("resumed", 3, "from ba3\udc80.pt")
    (line,) = (tmp_path / "events.jsonl").read_bytes().splitlines()
    assert json.loads(line)["text"] == "from ba3?.pt"
    assert b"\\ud" not in line


@pytest.mark.parametrize("full", ["config", "tokenizer"])
def test_a_folder_that_cannot_be_written_to_is_one_sentence(
    full: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: Any) -> None:
        # The second is what the tokenizers package raises.
        raise (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if full == "config"
            else Exception("No space left on device (os error 28)")
        )

    if full == "config":
        monkeypatch.setattr(os, "fsync", no_space)
    monkeypatch.setattr("elc_composer.training.record.to_yaml", lambda _: "seed: 1\n")
    run = SimpleNamespace(
        folder=tmp_path / "run",
        config=SimpleNamespace(),
        model=SimpleNamespace(to_json_string=lambda: "{}"),
        tokenizer=SimpleNamespace(save_pretrained=no_space),
    )
    with pytest.raises(DataError, match=r"run cannot be written: No space left on device.*; correct that"):
        save_run_files(run)  # type: ignore[arg-type]
