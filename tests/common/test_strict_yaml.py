from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import pytest

from elc_composer.common.errors import ConfigError
from elc_composer.common.strict_yaml import load_strict, to_yaml


class Color(Enum):
    red = "red"
    blue = "blue"


@dataclass
class Wheel:
    radius: float = 1.0
    spokes: int = 8


@dataclass
class Bike:
    name: str = "bike"
    color: Color = Color.red
    gears: int | str | None = None
    wheels: list[Wheel] = field(default_factory=lambda: [Wheel(), Wheel(2.0)])
    spare: Wheel | None = None


@dataclass
class Key:
    code: int
    label: str = "key"

    def __post_init__(self) -> None:
        if self.code < 0:
            raise ConfigError(f"code is {self.code}; it must be at least 0")


@dataclass
class Lock:
    code: int
    keys: list[Key] = field(default_factory=list)


def write(folder: Path, text: str) -> Path:
    path = folder / "bike.yaml"
    path.write_text(text)
    return path


def test_yaml_then_overrides_become_typed_objects(tmp_path: Path) -> None:
    path = write(tmp_path, "name: roadster\nwheels: [{radius: 3}, {spokes: 5}]\n")
    bike = load_strict(Bike, path, ["wheels.1.radius=1e-2", "color=blue", "gears=auto", "spare.spokes=4"])
    assert bike == Bike("roadster", Color.blue, "auto", [Wheel(3.0, 8), Wheel(0.01, 5)], Wheel(1.0, 4))


def test_written_config_reads_back(tmp_path: Path) -> None:
    bike = Bike("x", Color.blue, 3, [Wheel(0.5)], None)
    assert load_strict(Bike, write(tmp_path, to_yaml(bike))) == bike


@pytest.mark.parametrize(
    ("text", "overrides", "parts"),
    [
        ("name: x\nwheels:\n  - radios: 3\n", [], ["bike.yaml:3", "wheels.0.radios", "did you mean 'radius'"]),
        ("colour: red\n", [], ["bike.yaml:1", "'colour'", "did you mean 'color'"]),
        ("zzz: 1\n", [], ["'zzz'", "valid here: color, gears, name, spare, wheels"]),
        ("spare: {spokes: many}\n", [], ["bike.yaml:1", "'spare.spokes'", "many"]),
        ("color: green\n", [], ["'color'", "green", "red"]),
        ("", ["spare.spoke=3"], ["override 'spare.spoke=3'", "did you mean 'spokes'"]),
        ("", ["spare.spokes=x"], ["override 'spare.spokes=x'", "'spare.spokes'"]),
        ("", ["wheels.7.radius=3"], ["override 'wheels.7.radius=3'"]),
        ("", ["gears"], ["'gears'", "key=value"]),
        ("- a\n- b\n", [], ["a config is a mapping"]),
        ("3\n", [], ["a config is a mapping"]),
        ("a: [b\n", [], ["bike.yaml: invalid YAML: expected ',' or ']', but got '<stream end>' in line 2"]),
    ],
)
def test_mistakes_are_named_in_one_sentence(tmp_path: Path, text: str, overrides: list[str], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_strict(Bike, write(tmp_path, text), overrides)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_missing_file_names_the_nearest(tmp_path: Path) -> None:
    write(tmp_path, "")
    with pytest.raises(ConfigError, match=r"bikes\.yaml.*did you mean 'bike\.yaml'"):
        load_strict(Bike, tmp_path / "bikes.yaml")
    (tmp_path / "bike.yaml").rename(tmp_path / ".hidden.yaml")
    for missing in (tmp_path / "bikes.yaml", tmp_path / "nowhere" / "bikes.yaml"):
        with pytest.raises(ConfigError, match=r"bikes\.yaml: the config file does not exist$"):
            load_strict(Bike, missing)


def test_a_missing_key_is_named_with_the_section_around_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"lock\.yaml: 'code' is missing; set it to a whole number$"):
        load_strict(Lock, write(tmp_path, "").rename(tmp_path / "lock.yaml"))
    path = write(tmp_path, "code: 1\nkeys:\n- label: a\n  code: 2\n- label: b\n")
    with pytest.raises(ConfigError, match=r"bike\.yaml:5: 'keys\.1\.code' is missing; set it to a whole number$"):
        load_strict(Lock, path)


def test_a_section_s_own_check_is_reported_with_the_full_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^keys\.0\.code is -1; it must be at least 0$"):
        load_strict(Lock, write(tmp_path, "code: 1\nkeys: [{code: -1}]"))


def test_a_later_override_of_a_section_replaces_an_earlier_one_of_a_key(tmp_path: Path) -> None:
    bike = load_strict(Bike, write(tmp_path, ""), ["spare.spokes=4", "spare={radius: 2}", "spare.radius=3"])
    assert bike.spare == Wheel(3.0, 8)
    with pytest.raises(ConfigError, match=r"^override 'spare=\{radius: x\}': 'spare\.radius' is 'x'"):
        load_strict(Bike, write(tmp_path, "spare: {radius: 1}"), ["spare.spokes=4", "spare={radius: x}"])
