"""When a run evaluates."""

from __future__ import annotations

from composer import Event, State, TimeUnit

from elc_composer.common.intervals import parse_interval

UNITS = (TimeUnit.BATCH, TimeUnit.EPOCH, TimeUnit.SAMPLE, TimeUnit.TOKEN)
"""Units of an evaluation interval."""


class EvaluationInterval:
    """When to evaluate: at every multiple of an interval, and when training reaches its duration.

    It holds no state that a checkpoint would miss, and it speaks before that batch's checkpoint is written, so that a
    resumed run neither repeats nor skips an evaluation. Units: `ba`, `ep`, `tok`, `sp`.
    """

    def __init__(self, interval: str, key: str = "eval_interval") -> None:
        self.interval = parse_interval(interval, key, UNITS)
        self.last_batch = -1

    def __call__(self, state: State, event: Event) -> bool:
        """Asked by Composer at BATCH_END, EPOCH_END and FIT_END."""
        if event not in (Event.BATCH_END, Event.EPOCH_END) or state.previous_timestamp is None:
            return False
        batch = state.timestamp.batch.value
        if event is Event.EPOCH_END and self.interval.unit is TimeUnit.BATCH and batch % self.interval.value == 0:
            # Evaluated after the epoch's last batch, maybe by the run that this one resumes.
            return False
        if batch == self.last_batch or not (self._passed(state) or self._at_the_end(state)):
            return False
        self.last_batch = batch
        return True

    def _passed(self, state: State) -> bool:
        assert state.previous_timestamp is not None
        unit, value = self.interval.unit, self.interval.value
        before, now = state.previous_timestamp.get(unit).value, state.timestamp.get(unit).value
        return before // value != now // value

    def _at_the_end(self, state: State) -> bool:
        elapsed = state.get_elapsed_duration()
        return elapsed is not None and elapsed.value >= 1.0
