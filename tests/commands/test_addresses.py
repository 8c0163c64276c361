"""Invalid addresses at every command and config key: one line, before any work, without a password."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from elc_composer import convert, evaluate, export, train
from elc_composer.analyze import __main__ as analyze
from elc_composer.checkpoints.resume import CheckpointsConfig
from elc_composer.common.errors import ConfigError
from elc_composer.data import DataConfig, MaskingConfig, StreamConfig, build_train_loader
from elc_composer.evaluation.minimal_pairs import read_minimal_pairs
from elc_composer.prepared import fast_tokenizer
from elc_composer.report import __main__ as report
from elc_composer.training.checks import check_callbacks
from elc_composer.training.config import load_config
from streaming_prep import cli
from streaming_prep.toy import __main__ as toy
from tests.conftest import ROOT
from tests.data.prepared import TOKENS

INVALID = [
    "s3://bucket/run#1",
    "s3://bucket/run?x=1",
    "s3:/bucket/run",
    "s3:bucket/run",
    "S3://bucket/run",
    "s3://user:hunter2@bucket/run",
    "S3://user:hunter2@bucket/run",
    "s3:/user:hunter2@bucket/run",
    "ftp://bucket/run",
    "s3:///run",
]
WITH_ADDRESS = {
    "build": (cli.main, ["build", "--corpus", "corpus", "--out", "PLACE"]),
    "minimal-pairs": (cli.main, ["minimal-pairs", "pairs.jsonl", "--out", "PLACE"]),
    "verify": (cli.main, ["verify", "PLACE"]),
    "stats": (cli.main, ["stats", "PLACE"]),
    "sample": (cli.main, ["sample", "PLACE"]),
    "evaluate": (evaluate.main, ["model", "--minimal-pairs", "PLACE", "--out", "results.json"]),
    "evaluate supplement": (
        evaluate.main,
        ["model", "--minimal-pairs", "pairs", "--supplement", "PLACE", "--out", "results.json"],
    ),
    "analyze": (analyze.main, ["run", "--out", "out", "--prune", "0.1", "--minimal-pairs", "PLACE"]),
}
LOCAL_ONLY = {
    "build corpus": (cli.main, ["build", "--corpus", "corpus", "PLACE", "--out", "out"]),
    "build tokenizer": (cli.main, ["build", "--corpus", "corpus", "--out", "out", "--tokenizer", "PLACE"]),
    "build work": (cli.main, ["build", "--corpus", "corpus", "--out", "out", "--work", "PLACE"]),
    "minimal-pairs": (cli.main, ["minimal-pairs", "PLACE", "--out", "out"]),
    "stats": (cli.main, ["stats", "data", "--picture", "PLACE"]),
    "tokenizer-report": (cli.main, ["tokenizer-report", "PLACE", "--corpus", "corpus"]),
    "toy": (toy.main, ["--out", "PLACE"]),
    "evaluate model": (evaluate.main, ["PLACE", "--minimal-pairs", "pairs", "--out", "results.json"]),
    "evaluate out": (evaluate.main, ["model", "--minimal-pairs", "pairs", "--out", "PLACE"]),
    "export checkpoint": (export.main, ["PLACE", "out"]),
    "export out": (export.main, ["run", "PLACE"]),
    "convert out": (convert.main, ["model.bin", "PLACE"]),
    "report out": (report.main, ["run", "--out", "PLACE"]),
    "analyze out": (analyze.main, ["run", "--out", "PLACE"]),
}


@pytest.fixture(autouse=True)
def empty_folder_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: object) -> None:
        raise AssertionError("an invalid address must not lead to a connection")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket.socket, "connect", connect)


def refusal(main: Callable[[list[str]], int], arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr of a command that refused its arguments and wrote nothing."""
    assert main(arguments) in (1, 2)
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert "hunter2" not in line
    assert list(Path.cwd().iterdir()) == []
    return line


@pytest.mark.parametrize("place", INVALID)
@pytest.mark.parametrize("command", WITH_ADDRESS)
def test_commands_that_take_an_address(command: str, place: str, capsys: pytest.CaptureFixture[str]) -> None:
    main, arguments = WITH_ADDRESS[command]
    line = refusal(main, [place if each == "PLACE" else each for each in arguments], capsys)
    reasons = (
        "is not supported; it must be a folder, or s3://",
        "contains",
        "user name or password",
        "no valid bucket",
    )
    assert any(reason in line for reason in reasons)


@pytest.mark.parametrize("place", ["s3://bucket/run", "s3://user:hunter2@bucket/run", "s3:/bucket", "file:///data"])
@pytest.mark.parametrize("command", LOCAL_ONLY)
def test_commands_that_take_a_local_path(command: str, place: str, capsys: pytest.CaptureFixture[str]) -> None:
    main, arguments = LOCAL_ONLY[command]
    line = refusal(main, [place if each == "PLACE" else each for each in arguments], capsys)
    assert "is an address; give a local path" in line


@pytest.mark.parametrize("place", INVALID)
@pytest.mark.parametrize(
    ("key", "read"),
    {
        "data.streams: remote": lambda place: StreamConfig(remote=place),
        "data.streams: local": lambda place: StreamConfig(local=place),
        "tokenizer": fast_tokenizer.load_fast_tokenizer,
        "minimal pairs": read_minimal_pairs,
        "checkpoints.save_folder": lambda place: CheckpointsConfig(save_folder=place),
        "checkpoints.load_path": lambda place: CheckpointsConfig(load_path=place),
    }.items(),
)
def test_config_keys(key: str, read: Callable[[str], object], place: str) -> None:
    with pytest.raises(ConfigError, match=f"^{key}: ") as found:
        read(place)
    assert len(str(found.value).splitlines()) == 1
    assert "hunter2" not in str(found.value)


@pytest.mark.parametrize("character", ["#", "?"])
def test_a_run_saved_under_such_an_address_is_copied(character: str) -> None:
    with pytest.raises(ConfigError, match="to resume a run that was saved there, copy its files to another prefix"):
        CheckpointsConfig(save_folder=f"s3://bucket/run{character}1")


def test_a_run_config_with_an_invalid_address() -> None:
    for override in ("checkpoints.save_folder=S3://bucket/x", "data.streams.0.local=s3:/bucket/x"):
        with pytest.raises(ConfigError, match="is not supported; it must be a folder, or s3://bucket/prefix"):
            load_config(ROOT / "yamls" / "quickstart.yaml", [override])


@pytest.mark.parametrize(
    ("place", "key"),
    # By default checkpoints.save_folder lies in the run folder and is read first.
    [("s3://bucket/runs", "run_folder"), ("s3:/user:hunter2@bucket/runs", "checkpoints.save_folder")],
)
def test_a_run_folder_is_local(place: str, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        train.main([str(ROOT / "yamls" / "quickstart.yaml"), f"run_folder={place}", "--dry-run"])
    assert end.value.code == 2
    captured = capsys.readouterr()
    assert f"error: {key}: " in captured.err
    assert "hunter2" not in captured.out + captured.err


def test_a_split_cannot_extend_the_address() -> None:
    """The parts that a config or an index adds to an address are checked as well."""
    stream = StreamConfig(remote="s3://bucket/data", local="cache", split="train#1")
    with pytest.raises(ValueError, match="contains '#'"):
        build_train_loader(
            DataConfig(streams=[stream], num_workers=0, download_retry=1),
            MaskingConfig(),
            TOKENS,
            seq_length=16,
            device_batch_size=8,
            seed=1,
        )


def test_an_endpoint_with_a_password_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for endpoint in ("http://user:hunter2@127.0.0.1:1", "127.0.0.1:1"):
        monkeypatch.setenv("S3_ENDPOINT_URL", endpoint)
        line = refusal(cli.main, ["verify", "s3://bucket/data"], capsys)
        assert "S3_ENDPOINT_URL must be http" in line


@pytest.mark.parametrize("place", ["s3://me:hunter2@bucket/run.yaml", "ss3://me:hunter2@bucket/run.yaml"])
def test_a_config_file_is_local(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        train.main([place])
    assert end.value.code == 2
    err = capsys.readouterr().err
    assert "is an address; give a local path" in err
    assert "hunter2" not in err


@pytest.mark.parametrize("place", [f"{start}me:hunter2@bucket/run" for start in ("ss3:/", "s3:/", "s3:")])
@pytest.mark.parametrize("key", ["tokenizer", "run_name", "callbacks.layer_weight_monitor.folder"])
def test_a_login_is_refused_though_a_slash_is_missing(key: str, place: str) -> None:
    with pytest.raises(ConfigError, match="user name or password") as refusal:
        load_config(ROOT / "yamls" / "quickstart.yaml", [f"{key}={place}"])
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize(
    "key",
    [f"callbacks.{name}.folder" for name in ("layer_weight_monitor", "mixed_input_monitor", "loss_guard")],
)
def test_folders_of_monitors_are_local(key: str) -> None:
    config = load_config(ROOT / "yamls" / "quickstart.yaml", [f"{key}=s3://bucket/run"])
    with pytest.raises(ConfigError, match=f"{key}: s3://bucket/run is an address; give a local path"):
        check_callbacks(config)
