"""Schedules evaluations during training."""

from __future__ import annotations

from composer import Event, State, TimeUnit

from elc_composer.common.intervals import parse_interval

UNITS = (TimeUnit.BATCH, TimeUnit.EPOCH, TimeUnit.SAMPLE, TimeUnit.TOKEN)
"""Units of an evaluation interval."""


class EvaluationInterval:
    """Evaluates at every multiple of an interval, and when training reaches its duration.

    It needs no state in checkpoints, and an evaluation runs before the checkpoint of the same batch is written: a
    resumed run neither repeats nor skips an evaluation. Units: `ba`, `ep`, `tok`, `sp`.
    """

    def __init__(self, interval: str, key: str = "eval_interval") -> None:
        self.interval = parse_interval(interval, key, UNITS)
        self.last_batch = -1

    def __call__(self, state: State, event: Event) -> bool:
        """Whether to evaluate now; Composer calls this at BATCH_END, EPOCH_END and FIT_END."""
        if event not in (Event.BATCH_END, Event.EPOCH_END) or state.previous_timestamp is None:
            return False
        batch = state.timestamp.batch.value
        if event is Event.EPOCH_END and self.interval.unit is TimeUnit.BATCH and batch % self.interval.value == 0:
            # This batch was evaluated at BATCH_END, possibly by the run that this one resumes.
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
