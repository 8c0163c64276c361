"""Write a report of one or several runs: `python -m elc_composer.report RUN_FOLDER [RUN_FOLDER ...]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from elc_composer.common.addresses import refuse_addresses
from elc_composer.common.errors import ConfigError, DataError, one_line
from elc_composer.report.run_reader import printable, read_runs


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parse = argparse.ArgumentParser(prog="python -m elc_composer.report", description=__doc__)
    parse.add_argument("runs", nargs="+", type=Path, metavar="RUN_FOLDER", help="folder of a run, finished or not")
    parse.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="the page; default: report.html in the run's folder, or in the current folder for several runs",
    )
    parse.add_argument("--png", type=Path, metavar="DIR", help="also write the charts as PNG files into DIR")
    parse.add_argument("--csv", type=Path, metavar="DIR", help="also write everything that was logged as CSV into DIR")
    return parse


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code. An invalid input gives one line and exit code 2."""
    options = parser().parse_args(arguments)
    out = options.out or (options.runs[0] / "report.html" if len(options.runs) == 1 else Path("report.html"))
    try:
        refuse_addresses(vars(options))
        write(options, out)
    except (ConfigError, DataError) as error:
        print(printable(f"error: {error}"), file=sys.stderr)
        return 2
    except OSError as error:
        where = error.filename2 or error.filename or out
        print(printable(f"error: {where}: {error.strerror or one_line(error)}"), file=sys.stderr)
        return 2
    return 0


def write(options: argparse.Namespace, out: Path) -> None:
    """Write the page and, if asked for, pictures and tables.

    Raises:
        DataError: a run that cannot be read.
        OSError: an output that cannot be written.
    """
    runs = read_runs(options.runs)
    # imported here, so that --help and a wrong folder need neither matplotlib nor Plotly
    from elc_composer.report.csv_tables import write_tables
    from elc_composer.report.page import write_page
    from elc_composer.report.pictures import write_pictures

    path = write_page(runs, out)
    print(printable(f"{path} ({path.stat().st_size / 1e6:.1f} MB)"))
    if options.png:
        print(printable(f"{len(write_pictures(runs, options.png))} pictures in {options.png}"))
    if options.csv:
        print(printable(f"{len(write_tables(runs, options.csv))} tables in {options.csv}"))


if __name__ == "__main__":
    sys.exit(main())
