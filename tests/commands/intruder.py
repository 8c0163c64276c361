"""A pickled object that runs code when it is loaded, to show that files are read without unpickling."""

from __future__ import annotations

from pathlib import Path


class Intruder:
    """Writes a file when it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[object, ...]:
        return exec, (f"open({str(self.witness)!r}, 'w').write('run')",)
