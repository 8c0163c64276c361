"""When a monitor measures: Composer time strings, counted from the timestamp alone, so that every rank agrees."""

from __future__ import annotations

import math

from composer.core import State, Time, TimeUnit

from elc_composer.common.errors import ConfigError

UNITS = (TimeUnit.BATCH, TimeUnit.EPOCH, TimeUnit.SAMPLE, TimeUnit.TOKEN, TimeUnit.SECOND, TimeUnit.DURATION)


class Interval:
    """One interval, such as `50ba`, `1ep`, `1_000_000tok` or `0.1dur`.

    Args:
        text: a Composer time string.
        field: the setting it comes from, for the error.

    Raises:
        ConfigError: if the string is no positive time.
    """

    def __init__(self, text: str, field: str) -> None:
        try:
            if text.strip()[-1:].isdigit():
                raise ValueError("no unit")
            self.time = Time.from_timestring(text)
        except (ValueError, TypeError) as error:
            raise ConfigError(
                f"{field}: {text!r} is no Composer time string such as '50ba', '1ep' or '0.1dur'"
            ) from error
        if self.time.unit not in UNITS or self.time.value <= 0:
            raise ConfigError(f"{field}: {text!r} must be a positive number of ba, ep, sp, tok, sec or dur")
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
        """Count from here: what lies before the state's timestamp is over.

        With `before`, from where the batch before this timestamp began, for those who watch batches: where a
        checkpoint lies on a multiple of the interval, the batch after it is to be watched, resumed or not.
        """
        self._seen = self._count(state, before)

    def passed(self, state: State) -> bool:
        """True once for each time that the timestamp has passed a multiple of the interval."""
        count = self._count(state)
        changed = self._seen is not None and count != self._seen
        self._seen = count
        return changed

    def wants_batch(self, state: State) -> bool:
        """Whether the batch about to start is to be watched: the run's first, then one an interval.

        With an interval in batches it is the batch that completes one, so that figures carry the steps 100, 200, ...;
        other units are known only afterwards, so it is the first batch after one was completed.
        """
        if int(state.timestamp.batch) == 0:
            self._seen = self._count(state)
            return True
        if self.time.unit == TimeUnit.BATCH:
            return (int(state.timestamp.batch) + 1) % int(self.time.value) == 0
        return self.passed(state)


def _reached(state: State, unit: TimeUnit | str, before: bool) -> float:
    """The timestamp in `unit`; with `before` that of the batch before, whose size is taken to be the usual one."""
    timestamp = state.timestamp
    value, batch = timestamp.get(unit).value, int(timestamp.batch)
    if not before or not batch:
        return value
    if unit == TimeUnit.EPOCH:
        return value - (int(timestamp.batch_in_epoch) == 0)
    return value * (batch - 1) / batch
