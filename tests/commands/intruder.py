"""A pickle that writes a file when it is loaded."""

from __future__ import annotations

from pathlib import Path


class Intruder:
    """Writes a file when it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[object, ...]:
        return exec, (f"open({str(self.witness)!r}, 'w').write('run')",)
