"""Environment variables stay out of what is printed and saved; addresses with logins are refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from elc_composer.common.errors import ConfigError
from elc_composer.common.strict_yaml import load_strict, to_yaml

SECRET = "s3cr3t-s3cr3t"


@dataclass
class Inner:
    token: str | None = None
    steps: int = 1


@dataclass
class Outer:
    name: str = "run"
    folder: str = "runs/${name}"
    parts: list[Inner] = field(default_factory=list)
    inner: Inner = field(default_factory=Inner)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", SECRET)


def test_values_from_the_environment_are_used_and_named_only(tmp_path: Path) -> None:
    text = "parts: [{token: '${oc.env:TOKEN}'}]\ninner: {token: 'Bearer ${parts.0.token}'}\n"
    config = load_strict(Outer, write(tmp_path / "run.yaml", text), ["name=${oc.env:TOKEN,none}"])
    assert config.parts[0].token == config.name == SECRET
    assert config.inner.token == f"Bearer {SECRET}"
    saved = to_yaml(config)
    assert SECRET not in saved
    assert "${oc.env:TOKEN}" in saved
    assert "name: ${oc.env:TOKEN,none}" in saved
    assert "folder: runs/${name}" in saved, "what is derived from it, too"
    assert load_strict(Outer, write(tmp_path / "again.yaml", saved)) == config


def test_other_references_are_resolved(tmp_path: Path) -> None:
    assert "folder: runs/one" in to_yaml(load_strict(Outer, write(tmp_path / "run.yaml", "name: one")))


def test_errors_do_not_show_the_value(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load_strict(Outer, write(tmp_path / "run.yaml", "inner: {steps: '${oc.env:TOKEN}'}"))
    assert SECRET not in str(refused.value)
    assert refused.value.__cause__ is None
    assert "inner.steps" in str(refused.value)


@pytest.mark.parametrize(
    "address", ["https://me:pass@host/x", "https://token@host", "s3://key:secret@bucket/run", "s3://key:sec/ret@b/x"]
)
def test_addresses_with_logins_are_refused_without_showing_them(address: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'inner.token' is an address with a user name or password") as refused:
        load_strict(Outer, write(tmp_path / "run.yaml", f"inner: {{token: '{address}'}}"))
    assert address not in str(refused.value)


@pytest.mark.parametrize("address", ["s3://bucket/me@home/x", "http://host:5000/me@home"])
def test_an_at_sign_in_a_path_is_no_login(address: str, tmp_path: Path) -> None:
    load_strict(Outer, write(tmp_path / "run.yaml", f"folder: {address}"))


@pytest.mark.parametrize("mistake", ["inner.steps=s3://key:hunter2/x@b/data", "inner.tokn=s3://key:hunter2@b/data"])
def test_a_login_at_the_wrong_place_is_not_shown_either(mistake: str, tmp_path: Path) -> None:
    key, address = mistake.removeprefix("inner.").split("=", 1)
    for text, overrides in (("", [mistake]), (f"inner: {{{key}: '{address}'}}", [])):
        with pytest.raises(ConfigError) as refused:
            load_strict(Outer, write(tmp_path / "run.yaml", text), overrides)
        assert "inner." in str(refused.value)
        assert "hunter2" not in str(refused.value)
        assert refused.value.__cause__ is None
