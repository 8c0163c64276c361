"""Logs the time that compiling the layers took."""

from __future__ import annotations

from composer import Callback, Logger, State

from elc_composer.model.compiled_layers import CompiledLayers


class CompileTime(Callback):
    """Logs `time/compile_seconds`, the sum so far, after each training batch in which a new shape was compiled."""

    def __init__(self, compiled: CompiledLayers) -> None:
        self.compiled = compiled
        self.logged = 0.0

    def batch_end(self, state: State, logger: Logger) -> None:
        """Log if the sum grew."""
        if self.compiled.seconds > self.logged:
            self.logged = self.compiled.seconds
            logger.log_metrics({"time/compile_seconds": self.logged})
