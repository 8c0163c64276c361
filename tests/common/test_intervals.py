"""Time strings: strict parsing, units, error messages."""

from __future__ import annotations

import pytest
from composer.core import Time, TimeUnit

from elc_composer.common.errors import ConfigError
from elc_composer.common.intervals import parse_interval

WRONG = ["", "often", "5", "5.5ba", "infdur", "nandur", "0ba", "-5ba", "1.5dur", "5 ba", "5BA", "ba", "1e3ba", "5ba5ba"]
WRONG += ["007ba", "1__0ba", "1_ba", "9" * 23 + "ba"]
WRONG += ["5it", "5ms", "5secs", "٣ba", "9" * 5000 + "ba", "0.0dur", "1__ba5", "1ba\n1ba"]


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("50ba", Time(50, "ba")),
        ("1ep", Time(1, "ep")),
        ("10_000sp", Time(10_000, "sp")),
        ("1_000_000tok", Time(1_000_000, "tok")),
        ("600sec", Time(600, "sec")),
        ("0.1dur", Time(0.1, "dur")),
        ("1dur", Time(1.0, "dur")),
    ],
)
def test_valid_intervals(text: str, time: Time) -> None:
    assert parse_interval(text, "key") == time
    assert parse_interval(f" {text} ", "key").unit == time.unit


@pytest.mark.parametrize("text", WRONG)
def test_invalid_intervals_are_refused_with_key_and_examples(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^a\.b is .*; it must be a positive number with a unit, such as 50ba, 1ep"):
        parse_interval(text, "a.b")


def test_units_can_be_restricted() -> None:
    with pytest.raises(ConfigError, match=r"such as 50ba, 1ep$"):
        parse_interval("600sec", "a.b", (TimeUnit.BATCH, TimeUnit.EPOCH))
