"""Text of a config stays as written, and numbers are plain decimals, in YAML, overrides and the saved config."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import yaml

from elc_composer.common.errors import ConfigError
from elc_composer.common.strict_yaml import load_strict, to_yaml


class Kind(Enum):
    small = "small"
    large = "large"


@dataclass
class Part:
    label: str = "part"
    note: str | None = None
    tags: list[str] = field(default_factory=list)


@dataclass
class Settings:
    text: str = "text"
    optional: str | None = None
    size: int | str | None = None
    count: int = 1
    limit: int | None = 5
    rate: float = 1.0
    clip: float | None = 2.0
    on: bool = True
    kind: Kind = Kind.small
    tags: list[str] = field(default_factory=list)
    rates: list[float] = field(default_factory=lambda: [0.5])
    part: Part = field(default_factory=Part)
    parts: list[Part] = field(default_factory=lambda: [Part("a"), Part("b")])
    free: dict[str, Any] = field(default_factory=dict)


def load(folder: Path, text: str, *overrides: str) -> Settings:
    path = folder / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    return load_strict(Settings, path, overrides)


def reloaded(folder: Path, settings: Settings) -> Settings:
    return load(folder, to_yaml(settings))


PLAIN = [
    *("3.10", "no", "yes", "on", "Off", "y", "N", "true", "False", "007", "0o17", "0x1F", "1e5", "1E-3", "1_000", "+5"),
    *("36:40", "1:30.5", "2024-01-01", "2024-01-01 10:00:00", ".5", "5.", ".inf", "-.inf", ".nan", "nan", "inf", "1.0"),
    *("a#1", "a:b", "s3://bucket/run", "C:\\new", "50ba", "=", "<<", "-5", "0", "00", "1,000", "nul", "None", "ümlaut"),
]


@pytest.mark.parametrize("text", PLAIN)
def test_unquoted_text_stays_as_written(text: str, tmp_path: Path) -> None:
    from_yaml = load(tmp_path, f"text: {text}\noptional: {text}\ntags: [{text.replace(',', '')}, no]\n")
    assert (from_yaml.text, from_yaml.optional, from_yaml.tags) == (text, text, [text.replace(",", ""), "no"])
    assert reloaded(tmp_path, from_yaml) == from_yaml
    overridden = load(tmp_path, "", f"text={text}", f"optional={text}", f"parts.1.label={text}")
    assert (overridden.text, overridden.optional, overridden.parts[1].label) == (text, text, text)
    assert reloaded(tmp_path, overridden) == overridden
    saved = yaml.safe_load(to_yaml(from_yaml))
    assert (saved["text"], saved["tags"][-1]) == (text, "no"), "as other readers of YAML see it"


@pytest.mark.parametrize(
    "text",
    ["runs/a #1", "/x/a: b", "a, b", "[a", "{x}", "[x]", "- a", "? a", "! a", "& a", "*a", "@a", "%a", "| a", " a "],
)
def test_overrides_keep_what_yaml_would_take_for_syntax(text: str, tmp_path: Path) -> None:
    settings = load(tmp_path, "", f"text={text}", f"part.note={text}")
    assert (settings.text, settings.part.note) == (text, text)
    assert reloaded(tmp_path, settings) == settings


@pytest.mark.parametrize(
    ("written", "text"),
    [("'3.10'", "3.10"), ('"a\\tb"', "a\tb"), ('""', ""), ("'null'", "null"), ("'it''s'", "it's"), ('"~"', "~")],
)
def test_quotes_are_removed(written: str, text: str, tmp_path: Path) -> None:
    for settings in (load(tmp_path, f"optional: {written}"), load(tmp_path, "", f"optional={written}")):
        assert settings.optional == text
        assert reloaded(tmp_path, settings) == settings


def test_quotes_within_a_text_stay(tmp_path: Path) -> None:
    assert load(tmp_path, "", "text='a' and 'b'").text == "'a' and 'b'"


@pytest.mark.parametrize("null", ["null", "Null", "NULL", "~", ""])
def test_null_is_none_where_the_type_allows_it(null: str, tmp_path: Path) -> None:
    settings = load(tmp_path, f"optional: {null}\nlimit: {null}\nclip: {null}\nsize: {null}\n")
    assert (settings.optional, settings.limit, settings.clip, settings.size) == (None, None, None, None)
    assert reloaded(tmp_path, settings) == settings
    if null:
        assert load(tmp_path, "", f"optional={null}", f"limit={null}").limit is None
    for key, wanted in (("text", "must be text"), ("count", "must be a whole number"), ("tags", "must be a list")):
        with pytest.raises(ConfigError, match=f"settings.yaml:1: '{key}' is {null or 'empty'}; it {wanted}"):
            load(tmp_path, f"{key}: {null}")


@pytest.mark.parametrize("key", ["text", "optional", "count", "limit", "on", "tags", "part", "part.note"])
@pytest.mark.parametrize("empty", ["", " "])
def test_an_override_without_value_says_what_to_write(key: str, empty: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"override '{key}={empty}' has no value; write {key}=null"):
        load(tmp_path, "", f"{key}={empty}")


@pytest.mark.parametrize(
    ("key", "written", "advice"),
    [
        ("count", "36:40", "write 2200"),
        ("count", "1:00", "write 60"),
        ("count", "-1:20", "write -80"),
        ("count", "017", "write 17"),
        ("count", "00", "write 0"),
        ("count", "1_000", "write 1000"),
        ("count", "+5", "write 5"),
        ("count", "0x10", "write 16"),
        ("count", "1e3", "write 1000"),
        ("count", "5.0", "write 5"),
        ("count", "5.5", "must be a whole number"),
        ("count", "many", "must be a whole number"),
        ("count", "true", "must be a whole number"),
        ("count", "1" * 400, "at most 19 digits"),
        ("count", "٣", "must be a whole number"),
        ("limit", "017", "whole number or null in plain digits; write 17"),
        ("rate", "1:30.5", "write 90.5"),
        ("rate", "007.5", "write 7.5"),
        ("rate", "1_0.5", "write 10.5"),
        ("rate", "nan", "must be a finite number"),
        ("rate", ".inf", "must be a finite number"),
        ("rate", "1e999", "must be a finite number"),
        ("rate", "1,5", "must be a finite number"),
        ("clip", "1:30.5", "finite number or null in plain digits; write 90.5"),
        ("on", "yes", "write true"),
        ("on", "Off", "write false"),
        ("on", "1", "write true"),
        ("kind", "tiny", "one of small, large"),
        ("tags", "a", "must be a list such as [a, b]"),
        ("part", "a", "must be a section of keys"),
    ],
)
def test_values_of_the_wrong_type_are_refused_with_what_to_write(
    key: str, written: str, advice: str, tmp_path: Path
) -> None:
    override = f"{key}={written}"
    for text, overrides, place in ((f"{key}: {written}", [], "settings.yaml:1: "), ("", [override], "override")):
        with pytest.raises(ConfigError) as refused:
            load(tmp_path, text, *overrides)
        message = str(refused.value)
        assert message.removeprefix(f"{tmp_path}/").startswith(place)
        assert f"'{key}' is " in message
        assert advice in message
        assert "\n" not in message


@pytest.mark.parametrize(
    ("written", "value"),
    [("1e-3", 1e-3), ("1.0", 1.0), ("2", 2.0), ("-0.5", -0.5), (".5", 0.5), ("1.5E+2", 150.0), ("'3'", 3.0)],
)
def test_plain_decimals(written: str, value: float, tmp_path: Path) -> None:
    settings = load(tmp_path, f"rate: {written}\nrates: [{written}, 1e-6]")
    assert (settings.rate, settings.rates) == (value, [value, 1e-6])
    assert type(settings.rate) is float
    assert reloaded(tmp_path, settings) == settings


@pytest.mark.parametrize(
    ("written", "size"), [("8", 8), ("auto", "auto"), ("null", None), ("1:20", "1:20"), ("08", "08"), ("'8'", "8")]
)
def test_a_number_or_text_is_a_number_only_if_it_is_plain(written: str, size: Any, tmp_path: Path) -> None:
    for settings in (load(tmp_path, f"size: {written}"), load(tmp_path, "", f"size={written}")):
        assert settings.size == size
        assert type(settings.size) is type(size)
        assert reloaded(tmp_path, settings) == settings


def test_values_without_a_schema(tmp_path: Path) -> None:
    settings = load(tmp_path, "free: {a: 1, b: 0.5, c: no, d: 007, e: '1', f: [true, null, 1:30], g: {h: 1e-3}}")
    expected = {"a": 1, "b": 0.5, "c": "no", "d": "007", "e": "1", "f": [True, None, "1:30"], "g": {"h": 1e-3}}
    assert settings.free == expected
    assert reloaded(tmp_path, settings) == settings


def test_lists_and_sections_in_overrides(tmp_path: Path) -> None:
    settings = load(tmp_path, "", "tags=[007, no, 'a #1']", "part={label: 1e5, tags: [x]}", "rates=[1e-3]")
    assert settings.tags == ["007", "no", "a #1"]
    assert settings.part == Part("1e5", None, ["x"])
    assert settings.rates == [1e-3]
    with pytest.raises(ConfigError, match="'#' starts a comment"):
        load(tmp_path, "", "tags=[a] #1")


def test_anchors_and_merge_keys(tmp_path: Path) -> None:
    text = "part: &base {label: 007, tags: &t [no]}\nparts:\n- <<: *base\n  note: 1e5\n- {label: x, tags: *t}\n"
    settings = load(tmp_path, text)
    assert settings.parts == [Part("007", "1e5", ["no"]), Part("x", None, ["no"])]


ODD = [
    *"aZé日😀07.:#-'\"\\$}{[],&*!%|>@`~=?_+/ \t\n\r\x85\u2028\x07\x7f\ufeff",
    *(": ", " #", "- ", "  ", "${", "\\${", "${text}", "null", "no", "true", "1e5", "007", "1:30", "<<"),
]


def quoted(text: str) -> str:
    """The text as a YAML scalar that holds every character by its number; `${` is escaped as documented."""
    return '"' + "".join(f"\\U{ord(character):08X}" for character in escaped(text)) + '"'


def escaped(text: str) -> str:
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)


def test_odd_texts_survive_yaml_overrides_and_saving(tmp_path: Path) -> None:
    """Property test: 150 configs of random texts are read from YAML and overrides, saved, and read back."""
    draw = random.Random(20)
    for _ in range(150):
        texts = ["".join(draw.choice(ODD) for _ in range(draw.randrange(7))) for _ in range(4)]
        items = [quoted(text) for text in texts]
        notes = ", ".join(f"{{note: {item}}}" for item in items)
        source = f"text: {items[0]}\noptional: {items[1]}\ntags: [{', '.join(items)}]\nparts: [{notes}]\n"
        settings = load(tmp_path, source)
        assert settings == Settings(texts[0], texts[1], tags=texts, parts=[Part(note=text) for text in texts])
        assert reloaded(tmp_path, settings) == settings
        overridden = load(tmp_path, "", f"text={quoted(texts[2])}", f"tags=[{', '.join(items)}]")
        assert (overridden.text, overridden.tags) == (texts[2], texts)
        bare = next((text for text in texts if text.strip() and text[0] not in "'\"~" and text != "null"), "a")
        assert load(tmp_path, "", f"text={escaped(bare)}", f"parts.1.note={escaped(bare)}").parts[1].note == bare
