"""What a run writes about itself outlasts a failure of the machine, and says so where it cannot be written."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from elc_composer.common.errors import ConfigError, DataError
from elc_composer.training.checks import check_callbacks
from elc_composer.training.config import load_config
from elc_composer.training.record import read_skipped, save_run_files, write_skipped, write_whole
from elc_composer.training.same_run import check_same_run
from tests.conftest import ROOT

CONFIG = ROOT / "yamls" / "quickstart.yaml"


def test_a_file_is_there_as_a_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.yaml"
    write_whole(path, "before")

    def power_failure(_: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", power_failure)
        with pytest.raises(KeyboardInterrupt):
            write_whole(path, "after")
    assert path.read_text() == "before"
    write_whole(path, "after")
    assert path.read_text() == "after"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"", b"seed: [", b"\xff\xfe", b"- 1"])
def test_a_config_that_was_cut_short_does_not_keep_the_run_from_going_on(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(content)
    check_same_run(SimpleNamespace(run_folder=str(tmp_path)))  # type: ignore[arg-type]


@pytest.mark.parametrize("lack", ["checkpoints.autoresume=false", "checkpoints.save_folder=null"])
def test_going_back_needs_checkpoints(lack: str) -> None:
    """Otherwise the run would begin anew, over what it has done."""
    roll_back = "callbacks.loss_guard.on_bad_loss=roll_back"
    check_callbacks(load_config(CONFIG, [roll_back]))
    check_callbacks(load_config(CONFIG, [lack]))
    with pytest.raises(ConfigError, match=r"roll_back goes back to .* needs checkpoints\.autoresume"):
        check_callbacks(load_config(CONFIG, [roll_back, lack]))


def test_steps_that_are_left_out(tmp_path: Path) -> None:
    assert read_skipped(tmp_path) == set()
    write_skipped(tmp_path, {7, 5})
    assert read_skipped(tmp_path) == {5, 7}
    (tmp_path / "skipped_steps.json").write_text("[5,")
    with pytest.raises(DataError, match=r"skipped_steps\.json is damaged .* events\.jsonl"):
        read_skipped(tmp_path)


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
    with pytest.raises(DataError, match=r"run cannot be written to: No space left on device.*; mend that and give"):
        save_run_files(run)  # type: ignore[arg-type]
