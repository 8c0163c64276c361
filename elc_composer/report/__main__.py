"""A run, or several side by side, as one HTML page: `python -m elc_composer.report RUN_FOLDER [RUN_FOLDER ...]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from elc_composer.common.addresses import refuse_addresses
from elc_composer.common.errors import ConfigError, DataError
from elc_composer.report.export import write_pictures, write_tables
from elc_composer.report.files import read_runs
from elc_composer.report.page import write_page


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parse = argparse.ArgumentParser(prog="python -m elc_composer.report", description=__doc__)
    parse.add_argument("runs", nargs="+", type=Path, metavar="RUN_FOLDER", help="folder of a run, finished or not")
    parse.add_argument(
        "--out", type=Path, help="the page; default: report.html in the run's folder, or here for several"
    )
    parse.add_argument("--png", type=Path, metavar="DIR", help="also write the charts as PNG files into DIR")
    parse.add_argument("--csv", type=Path, metavar="DIR", help="also write everything that was logged as CSV into DIR")
    return parse


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code. Bad input ends with one line and exit code 2."""
    options = parser().parse_args(arguments)
    out = options.out or (options.runs[0] / "report.html" if len(options.runs) == 1 else Path("report.html"))
    try:
        refuse_addresses(vars(options))
        runs = read_runs(options.runs)
        try:
            path = write_page(runs, out)
        except OSError as error:
            raise DataError(f"{out} cannot be written: {error.strerror}") from None
        print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
        if options.png:
            print(f"{len(write_pictures(runs, options.png))} pictures in {options.png}")
        if options.csv:
            print(f"{len(write_tables(runs, options.csv))} tables in {options.csv}")
    except (ConfigError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
