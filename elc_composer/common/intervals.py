"""Composer time strings: strict parsing, and intervals counted from the timestamp, so that all ranks agree."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from composer.core import State, Time, TimeUnit

from elc_composer.common.errors import ConfigError

UNITS = (TimeUnit.BATCH, TimeUnit.EPOCH, TimeUnit.SAMPLE, TimeUnit.TOKEN, TimeUnit.SECOND, TimeUnit.DURATION)
EXAMPLES = {
    TimeUnit.BATCH: "50ba",
    TimeUnit.EPOCH: "1ep",
    TimeUnit.SAMPLE: "10_000sp",
    TimeUnit.TOKEN: "1_000_000tok",
    TimeUnit.SECOND: "600sec",
    TimeUnit.DURATION: "0.1dur",
}
_NUMBER = r"(?:0|[1-9][0-9]{0,17}|[1-9][0-9]{0,2}(?:_[0-9]{3}){1,5})(?:\.[0-9]{1,30})?"
_TIME = re.compile(rf"({_NUMBER})(ba|ep|sp|tok|sec|dur)")


def parse_interval(text: str, key: str, units: Sequence[TimeUnit] = UNITS) -> Time:
    """Parse a Composer time string strictly.

    Composer's own parser takes a number without a unit, infinity, and text around the number.

    Args:
        text: such as `50ba`, `1ep`, `1_000_000tok` or `0.1dur`.
        key: the full config key, for the error message.
        units: the units allowed for this key.

    Raises:
        ConfigError: the text is not a positive number with one of the units, or is a fraction of anything but dur.
    """
    match = _TIME.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is not None and TimeUnit(match[2]) in units:
        whole = "." not in match[1] or match[2] == "dur"
        time = Time.from_timestring(match[0].replace("_", "")) if whole else None
        if time is not None and time.value > 0 and (match[2] != "dur" or time.value <= 1):
            return time
    raise ConfigError(
        f"{key} is {text!r}; it must be a positive number with a unit, such as "
        f"{', '.join(EXAMPLES[unit] for unit in units)}"
    )


class Interval:
    """One interval, such as `50ba`, `1ep`, `1_000_000tok` or `0.1dur`.

    Args:
        text: a Composer time string.
        field: the config key, for the error message.

    Raises:
        ConfigError: if the string is not a positive time; see `parse_interval`.
    """

    def __init__(self, text: str, field: str) -> None:
        self.time = parse_interval(text, field)
        self._seen: int | None = None

    def _count(self, state: State, before: bool = False) -> int:
        if self.time.unit != TimeUnit.DURATION:
            return int(_reached(state, self.time.unit, before) // self.time.value)
        if state.max_duration is None:
            return 0
        done = _reached(state, state.max_duration.unit, before) / max(state.max_duration.value, 1)
        # 0.3 / 0.1 is 2.9999999999999996
        return math.floor(done / self.time.value + 1e-9)

    def restart(self, state: State, before: bool = False) -> None:
        """Start counting at the state's timestamp.

        Args:
            state: the training state.
            before: start at the beginning of the last batch. Callbacks that measure whole batches need this: if a
                checkpoint lies on a multiple of the interval, a resumed run must measure the batch after it.
        """
        self._seen = self._count(state, before)

    def passed(self, state: State) -> bool:
        """True if the timestamp passed a multiple of the interval since the last call."""
        count = self._count(state)
        changed = self._seen is not None and count != self._seen
        self._seen = count
        return changed

    def wants_batch(self, state: State) -> bool:
        """True if the batch about to start is to be measured: the first of the run, then one per interval.

        With an interval in batches, it is the batch that completes the interval, so that values are logged for steps
        100, 200, ...; in other units this is known only afterwards, so it is the first batch after the interval.
        """
        if int(state.timestamp.batch) == 0:
            self._seen = self._count(state)
            return True
        if self.time.unit == TimeUnit.BATCH:
            return (int(state.timestamp.batch) + 1) % int(self.time.value) == 0
        return self.passed(state)


def _reached(state: State, unit: TimeUnit | str, before: bool) -> float:
    """The timestamp in `unit`; with `before`, that of one batch of average size earlier."""
    timestamp = state.timestamp
    value, batch = timestamp.get(unit).value, int(timestamp.batch)
    if not before or not batch:
        return value
    if unit == TimeUnit.EPOCH:
        return value - (int(timestamp.batch_in_epoch) == 0)
    return value * (batch - 1) / batch
