"""The command: PNG pictures, CSV tables, and one line for invalid input."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from elc_composer.report.__main__ import main
from elc_composer.report.downsample import downsample, evenly_spaced, rounded
from tests.report.synthetic import shares, write_run


def test_pictures_and_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run")
    png, tables, page = tmp_path / "png", tmp_path / "csv", tmp_path / "out" / "page.html"
    assert main([str(run), "--out", str(page), "--png", str(png), "--csv", str(tables)]) == 0
    assert page.exists()
    assert not (run / "report.html").exists()
    names = {path.name for path in png.iterdir()}
    assert {"loss.png", "layer_weights_made_up.png", "mixed_inputs_over_time_made_up.png"} <= names
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in png.iterdir())
    with (tables / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "loss/train/total"]
    assert [(int(row["step"]), float(row["value"])) for row in rows][20] == (20, 2.5)
    with (tables / "layer_weights.csv").open() as file:
        last = [row for row in csv.DictReader(file) if (row["step"], row["layer"]) == ("90", "3")]
    assert [float(row["share"]) for row in last] == pytest.approx(shares(3, 90))
    with (tables / "mixed_inputs.csv").open() as file:
        mixed = [row for row in csv.DictReader(file) if (row["step"], row["layer"]) == ("20", "2")]
    assert [float(row["contribution"]) for row in mixed] == pytest.approx([2 * share for share in shares(2, 20)])
    assert [row["norm"] for row in mixed] == ["2.0", "2.0"]
    with (tables / "weight_histograms.csv").open() as file:
        bars = [row for row in csv.DictReader(file) if (row["step"], row["unit"]) == ("20", "embedding")]
    assert [float(row["from"]) for row in bars] == pytest.approx([-1.0, -0.6, -0.2, 0.2, 0.6])
    assert [row["count"] for row in bars] == ["1", "5", "30", "5", "1"]
    assert len((tables / "weight_histograms.csv").read_text().splitlines()) == 1 + 5 * 2 * 5
    assert str(page) in capsys.readouterr().out


def test_runs_with_names_unfit_for_files_have_pictures_of_their_own(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / str(i), name=name) for i, name in enumerate(("<b>$x$", "$b$ <x>"))]
    png = tmp_path / "png"
    assert main([*map(str, runs), "--out", str(tmp_path / "page.html"), "--png", str(png)]) == 0
    assert {"layer_weights_b_x_1.png", "layer_weights_b_x_2.png"} <= {path.name for path in png.iterdir()}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "is not a folder"),
        (lambda folder: folder.mkdir(), "contains no metrics.jsonl"),
        (lambda folder: (folder / "metrics.jsonl").mkdir(parents=True), "metrics.jsonl cannot be read"),
        (lambda folder: (write_run(folder) / "report.html").mkdir(), "report.html: Is a directory"),
    ],
)
def test_invalid_input_is_one_line(make: Any, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path / "run")
    assert main([str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line


@pytest.mark.parametrize("option", ["--out", "--png", "--csv"])
def test_an_output_that_cannot_be_written_is_one_line(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run")
    (tmp_path / "file").touch()
    assert main([str(run), option, str(tmp_path / "file" / "inside")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path / 'file'}")


def test_help_needs_no_plotting_library() -> None:
    code = (
        "import sys, elc_composer.report.__main__ as command; command.parser().format_help(); "
        "print([name for name in ('matplotlib', 'plotly', 'torch', 'composer') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_downsampling_keeps_ends_extremes_and_gaps() -> None:
    values = [float(i % 7) for i in range(1000)]
    values[500], values[700] = -50.0, 50.0
    with_gap = [None if 100 <= i < 300 else value for i, value in enumerate(values)]
    steps, kept = downsample(range(1000), with_gap, 40)
    assert len(steps) <= 40
    assert steps == sorted(set(steps))
    assert (steps[0], steps[-1]) == (0, 999)
    assert {-50.0, 50.0, None} <= set(kept)
    assert downsample([1, 2], [1.0, None], 40) == ([1, 2], [1.0, None])
    assert evenly_spaced(range(10), 3) == [0, 4, 9]


def test_numbers_are_rounded_to_significant_digits() -> None:
    assert (rounded(1.23456789), rounded(2.0), rounded(float("nan"))) == (1.2346, 2, None)
    assert rounded(sys.float_info.max) == sys.float_info.max
