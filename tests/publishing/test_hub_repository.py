"""Pushing to the Hub, with a stand-in for huggingface_hub's HfApi that keeps branches in memory; no network."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import EntryNotFoundError, LocalTokenNotFoundError, RepositoryNotFoundError

from elc_composer.publish import main
from tests.publishing.made_run import add_checkpoint, make_run

TO = ["--to", "hf://user/tiny"]


def not_found(kind: type[Exception]) -> Exception:
    """The error without the response that its constructor asks for, which differs between versions."""
    return kind.__new__(kind, "not found")


class FakeApi:
    """Branches as dicts of file contents; a commit is named by the contents, as on the Hub."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.branches: dict[str, dict[str, bytes]] | None = None
        self.calls: list[tuple[str, Any]] = []
        self.private: bool | None = None
        self.logged_in = True
        self.fail_upload_of: str | None = None

    def whoami(self) -> dict[str, str]:
        if not self.logged_in:
            raise LocalTokenNotFoundError("Token is required, but no token found.\nLog in first.")
        return {"name": "user"}

    def create_repo(self, repo_id: str, *, private: bool | None = None, exist_ok: bool = False) -> None:
        if self.branches is None:
            self.branches, self.private = {"main": {".gitattributes": b"x"}}, private
            self.calls.append(("create_repo", repo_id))
        assert exist_ok

    def create_branch(self, repo_id: str, *, branch: str, exist_ok: bool = False) -> None:
        assert self.branches is not None
        assert exist_ok
        if branch not in self.branches:
            self.branches[branch] = dict(self.branches["main"])
            self.calls.append(("create_branch", branch))

    def list_repo_refs(self, repo_id: str) -> Any:
        if self.branches is None:
            raise not_found(RepositoryNotFoundError)
        entries = []
        for name, content in self.branches.items():
            digest = hashlib.sha1(repr(sorted(content.items())).encode()).hexdigest()
            entries.append(SimpleNamespace(name=name, target_commit=digest))
        return SimpleNamespace(branches=entries)

    def hf_hub_download(self, repo_id: str, filename: str, *, revision: str) -> str:
        assert self.branches is not None
        if filename not in self.branches[revision]:
            raise not_found(EntryNotFoundError)
        path = self.folder / f"{revision}_{filename}"
        path.write_bytes(self.branches[revision][filename])
        return str(path)

    def upload_folder(self, *, repo_id: str, folder_path: str, revision: str, commit_message: str) -> None:
        assert self.branches is not None
        if revision == self.fail_upload_of:
            raise ConnectionError("the connection\nwas reset")
        self.branches[revision].update({path.name: path.read_bytes() for path in Path(folder_path).iterdir()})
        self.calls.append(("upload_folder", revision))


@pytest.fixture
def api(tmp_path: Path) -> FakeApi:
    (tmp_path / "downloads").mkdir()
    return FakeApi(tmp_path / "downloads")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "made", steps=(4, 8, 20))


def test_the_stand_in_takes_what_hfapi_takes(api: FakeApi) -> None:
    import inspect

    for name in ("create_repo", "create_branch", "list_repo_refs", "hf_hub_download", "upload_folder"):
        real = set(inspect.signature(getattr(HfApi, name)).parameters)
        assert set(inspect.signature(getattr(api, name)).parameters) <= real, name


def test_checkpoints_come_first_and_main_last(run: Path, api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run), *TO, "--no-check", "--private", "--license", "mit"], api) == 0
    assert api.private is True
    assert api.calls == [
        ("create_repo", "user/tiny"),
        *[(call, branch) for branch in ("ba4", "ba8", "ba20") for call in ("create_branch", "upload_folder")],
        ("upload_folder", "main"),
    ]
    assert api.branches is not None
    weights = {name: files["model.safetensors"] for name, files in api.branches.items()}
    assert weights["main"] == weights["ba20"]
    assert len(set(weights.values())) == 3
    card = api.branches["ba4"]["README.md"].decode()
    assert 'from_pretrained("user/tiny", revision="ba4", trust_remote_code=True)' in card
    assert str(run) not in card, "no path of this machine"
    before = {name: dict(files) for name, files in api.branches.items()}
    capsys.readouterr()
    assert main([str(run), *TO, "--no-check", "--license", "mit"], api) == 0
    assert api.branches == before
    assert "main       unchanged" in capsys.readouterr().out
    add_checkpoint(run, 24)
    assert main([str(run), *TO, "--no-check", "--license", "mit"], api) == 0
    assert sorted(api.branches) == ["ba20", "ba24", "ba4", "ba8", "main"]
    assert [branch for call, branch in api.calls if call == "create_branch"] == ["ba4", "ba8", "ba20", "ba24"]


def test_interrupted_upload_is_finished_by_the_next_call(
    run: Path, api: FakeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(run), *TO, "--no-check", "--checkpoints", "ba4"], api) == 0
    api.fail_upload_of = "ba8"
    assert main([str(run), *TO, "--no-check"], api) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: hf://user/tiny: the connection was reset; rerun the same command")
    assert error.count("\n") == 1
    assert api.branches is not None
    assert "ba8" in api.branches, "the branch exists, with main's files"
    api.fail_upload_of = None
    assert main([str(run), *TO, "--no-check"], api) == 0
    assert len({files["model.safetensors"] for files in api.branches.values()}) == 3


def test_missing_login_is_named_before_any_work(run: Path, api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.logged_in = False
    assert main([str(run), *TO], api) == 1
    error = capsys.readouterr().err
    assert "hf auth login" in error
    assert error.count("\n") == 1
    assert api.branches is None


def test_dry_run_asks_the_hub_nothing(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run), *TO, "--dry-run"], api=object()) == 0
    said = capsys.readouterr().out
    assert [line.split(":")[0] for line in said.splitlines() if not line.startswith(" ")] == [
        "ba4",
        "ba8",
        "ba20",
        "main",
    ]


def test_another_runs_repository_is_refused(
    run: Path, api: FakeApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(run), *TO, "--no-check", "--checkpoints", "ba4"], api) == 0
    other = make_run(tmp_path / "other", steps=(4,), started="2026-02-02T00:00:00+00:00")
    assert main([str(other), *TO, "--no-check"], api) == 1
    assert "holds another run" in capsys.readouterr().err
