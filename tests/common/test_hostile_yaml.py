"""Damaged and hostile config files are refused in one line, within limits of time and memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from elc_composer.common.errors import ConfigError
from elc_composer.common.strict_yaml import load_strict


@dataclass
class Settings:
    text: str = "text"
    tags: list[str] = field(default_factory=list)
    lists: list[list[str]] = field(default_factory=list)
    free: dict[str, Any] = field(default_factory=dict)
    count: int = 1


BOMB = "free:\n a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f" a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 20)
)
DOUBLING = "tags: [" + ", ".join([*(f"'${{tags.{n + 1}}}${{tags.{n + 1}}}'" for n in range(60)), "x"]) + "]"
CHAIN = "tags: [" + ", ".join([*(f"'${{tags.{n + 1}}}'" for n in range(5000)), "x"]) + "]"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"free: " + b"[" * 900 + b"]" * 900, "more than 64 levels of nesting"),
        (b"free: " + b"{a: " * 90_000, "more than 64 levels of nesting"),
        (b"free: " + b"{a: " * 65 + b"1" + b"}" * 65, "more than 64 levels of nesting"),
        (BOMB.encode(), "more than 100,000 values"),
        (b"free: &a {b: *a}", "more than 64 levels of nesting"),
        (b"lists: &a [*a]", "more than 64 levels of nesting"),
        (DOUBLING.encode(), "more than 100,000 characters after references"),
        (CHAIN.encode(), "lead through too many other references"),
        (b"text: ${text}", "settings.yaml:1: 'text' refers to itself (text -> text)"),
        (b"text: a${tags.0}\ntags: ['${text}']", "'text' refers to itself (text -> tags.0 -> text)"),
        (b"tags: ['${tags}']", "${tags} is a list; refer to single values"),
        (b"text: ${nothing}", "${nothing} refers to a key that does not exist"),
        (b"text: ${tags.1}", "${tags.1} refers to a key that does not exist"),
        (b"text: a ${free}", "${free} is a section; refer to single values"),
        (b"text: ${oc.env:ELC_NOT_SET}", "environment variable 'ELC_NOT_SET' is not set"),
        (b"text: ${oc.decode:1}", "${oc.decode:1} is not supported"),
        (b"text: ${.count}", "${.count} is not supported"),
        (b"text: ${count", "${ without a closing brace"),
        (b"text: a\ncount: 1\ntext: b", "settings.yaml:3: the key 'text' occurs twice"),
        (
            b"text: !!python/object/apply:os.system [ls]",
            "the tag tag:yaml.org,2002:python/object/apply:os.system is not",
        ),
        (b"count: !!int '5'", "the tag tag:yaml.org,2002:int is not supported"),
        (b'text: "\\UFFFFFFFF"', "invalid YAML"),
        (b"%YAML 1." + b"1" * 5000 + b"\n---\na: b", "invalid YAML"),
        (b"count: " + b"1" * 5000, "'count' is '" + "1" * 57 + "...'; it must be a whole number of at most 19 digits"),
        (b'text: "\\ud800"', "'text' holds '\\ud800'"),
        (b'tags: ["a\\0"]', "'tags.0' holds '\\x00'"),
        (b"text: \xff", "is not UTF-8 text (invalid start byte at byte 6)"),
        (b"text: a\x00b", "invalid YAML"),
        (b"? [a]\n: b", "settings.yaml:1: a key must be text"),
        (b"free: {<<: 5}", "`<<` merges mappings only"),
        (b"text: a\n---\ntext: b", "invalid YAML: but found another document"),
        (b"text: *a", "invalid YAML: found undefined alias 'a' in line 1, column 7"),
        (b"1: 2", "unknown key '1'"),
        (b"text: {a: b}", "'text' is a section of keys; it must be text"),
        (b"text: [a]", "'text' is a list; it must be text"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value[:40],
)
def test_refused_in_one_line(content: bytes, told: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        load_strict(Settings, path)
    message = str(refused.value)
    assert told in message
    assert "\n" not in message
    assert len(message) < 500


@pytest.mark.parametrize("override", [f"tags.{'9' * 5000}=a", "tags.٣=a", "tags.-1=a", "text.a=b", "=a", "tags"])
def test_odd_override_keys_are_refused_in_one_line(override: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(f"text: ${{tags.{'9' * 5000}}}" if override == "tags" else "")
    with pytest.raises(ConfigError, match=r"override|refers to a key that does not exist") as refused:
        load_strict(Settings, path, [override] if override != "tags" else [])
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to(path)], ids=["folder", "circular link"])
def test_what_is_no_file(make: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    make(path)
    with pytest.raises(ConfigError, match=r"cannot be read|does not exist"):
        load_strict(Settings, path)


def test_a_byte_order_mark_and_comments_are_no_content(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_bytes(b"\xef\xbb\xbf# only a comment\n")
    assert load_strict(Settings, path) == Settings()


@pytest.mark.parametrize("text", ["a\udc80", "a\0b"])
def test_overrides_and_variables_must_be_text(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("")
    with pytest.raises(ConfigError, match="'text' holds"):
        load_strict(Settings, path, [f"text={text}"])
    if "\0" not in text:
        monkeypatch.setenv("ELC_ODD", text)
        with pytest.raises(ConfigError, match="'text' holds"):
            load_strict(Settings, path, ["text=${oc.env:ELC_ODD}"])


def test_references(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELC_NUMBER", "7")
    monkeypatch.setenv("ELC_TEXT", "1e5")
    monkeypatch.delenv("ELC_NOT_SET", raising=False)
    path = tmp_path / "settings.yaml"
    path.write_text(
        "count: ${oc.env:ELC_NUMBER}\n"
        "text: '${oc.env:ELC_TEXT}/${count}/${tags.0}'\n"
        "tags:\n"
        "- ${oc.env:ELC_NOT_SET,007}\n"
        "- ${oc.env:ELC_NOT_SET,'a, b'}\n"
        "- ${oc.env:ELC_NOT_SET,${count}x}\n"
        "- a\\${b}\n"
    )
    settings = load_strict(Settings, path)
    assert settings.count == 7
    assert settings.text == "1e5/7/007"
    assert settings.tags == ["007", "a, b", "7x", "a${b}"]
