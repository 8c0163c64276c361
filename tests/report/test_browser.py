"""The page in a real browser: nothing on its console, a slider that moves, nothing wider than a phone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from elc_composer.report.__main__ import main
from tests.report.browser import Browser, chromium
from tests.report.synthetic import shares, write_run

SLIDER = "#weights input[type=range]"
ROW = "[...document.querySelectorAll('#weights [data-run=\"{run}\"] tbody tr:nth-child(3) td')]"
CELLS = "return " + ROW + ".map((cell) => cell.textContent)"
COLOURS = "return " + ROW + ".map((cell) => getComputedStyle(cell).backgroundColor)"
CONTRAST = """
const light = (text) => {
  let parts = text.match(/[\\d.]+/g).slice(0, 3).map(Number);
  if (text.startsWith("rgb")) parts = parts.map((part) => part / 255);
  const [r, g, b] = parts.map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
};
const cells = [...document.querySelectorAll("#weights td, #pairs .grid td")].filter((cell) => cell.style.background);
const seen = cells.map((cell) => [getComputedStyle(cell).color, getComputedStyle(cell).backgroundColor].map(light));
return [cells.length, Math.min(...seen.map(([text, ground]) => Math.max(text / ground, ground / text)))];
"""
OVERFLOW = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A page of one run, and one that compares two, of a long name and many columns."""
    folder = tmp_path_factory.mktemp("pages")
    one = write_run(folder / "one", name="one")
    two = write_run(folder / "two", name="another_run_with_a_name_that_is_far_too_long_for_a_phone", mixing=-1.0)
    assert main([str(one), "--out", str(folder / "one.html")]) == 0
    assert main([str(one), str(two), "--out", str(folder / "both.html")]) == 0
    return folder / "one.html", folder / "both.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as window:
        yield window


def text_of(share: float) -> str:
    return "1" if share >= 0.995 else f"{share:.2f}".removeprefix("0")


def row_at(step: int, mixing: float = 1.0) -> list[str]:
    return [text_of(share) for share in shares(3, step, mixing)]


def test_the_slider_moves_the_heatmaps_by_key(pages: tuple[Path, Path], browser: Browser) -> None:
    browser.open(pages[1])
    assert browser.run(CELLS.format(run=0)) == row_at(90)
    assert browser.run(CELLS.format(run=1)) == row_at(90, -1.0)
    browser.press(SLIDER, "left", "left", "left")
    assert browser.run(CELLS.format(run=0)) == row_at(60)
    assert browser.run(CELLS.format(run=1)) == row_at(60, -1.0)
    assert browser.run(f"return document.querySelector('{SLIDER}').getAttribute('aria-valuetext')") == "step 60"
    assert browser.run("return document.querySelector('#mixed caption').textContent") == "one, step 60"
    browser.press(SLIDER, "home")
    assert browser.run(CELLS.format(run=0)) == [".33", ".33", ".33"]
    at_start = browser.run(COLOURS.format(run=0))
    browser.press(SLIDER, "end")
    assert browser.run(COLOURS.format(run=0)) != at_start
    assert browser.console() == []


def test_an_address_names_a_step(pages: tuple[Path, Path], browser: Browser) -> None:
    browser.open(pages[0], "#step=35")
    assert browser.run(CELLS.format(run=0)) == row_at(30)


def test_charts_are_drawn_and_have_a_table(pages: tuple[Path, Path], browser: Browser) -> None:
    browser.open(pages[0])
    for section in ("loss", "pairs", "mixed", "distributions", "speed", "gradients", "learning-rate"):
        assert browser.run(f"return document.querySelectorAll('#{section} svg path[d^=M]').length") > 0
    assert browser.run("return document.querySelectorAll('svg[role=img]:not([aria-label])').length") == 0
    browser.click("#panel-loss summary")
    deadline = time.monotonic() + 30  # the table is made once the browser has told the page of the click
    while (rows := browser.run("return document.querySelectorAll('#panel-loss tbody tr').length")) == 0:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert rows == 40
    browser.run(
        "const list = document.querySelector('#distributions select');"
        "list.value = 'grad_norm'; list.dispatchEvent(new Event('change'))"
    )
    assert (
        browser.run("return document.querySelector('#distributions h3').textContent") == "Gradient norm over training"
    )
    assert browser.console() == []


def test_runs_can_be_hidden(pages: tuple[Path, Path], browser: Browser) -> None:
    browser.open(pages[1])
    curves = "return document.querySelectorAll('#panel-loss path').length"
    both = browser.run(curves)
    browser.click("#shown label:nth-child(2) input")
    assert browser.run(curves) == both / 2
    assert browser.run("return document.querySelector('#weights [data-run=\"1\"]').hidden") is True


def test_on_paper_charts_are_drawn_for_its_width(pages: tuple[Path, Path], browser: Browser) -> None:
    width = "return document.querySelector('#panel-{0} svg').viewBox.baseVal.width"
    browser.open(pages[0])
    before = browser.run(width.format("loss"))
    browser.run("window.dispatchEvent(new Event('beforeprint'))")
    assert browser.run(width.format("loss")) == 700
    assert browser.run(width.format("distributions-quantiles-embedding")) == 230
    browser.run("window.dispatchEvent(new Event('afterprint'))")
    assert browser.run(width.format("loss")) == before != 700


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_numbers_in_cells_can_be_read(dark: bool, pages: tuple[Path, Path], tmp_path: Path) -> None:
    """WCAG 2 asks 4.5 of small text."""
    with chromium(tmp_path / "profile", dark=dark) as window:
        window.open(pages[0])
        for step in range(0, 100, 10):
            window.run(f"location.hash = 'step={step}'; window.dispatchEvent(new Event('hashchange'))")
            cells, contrast = window.run(CONTRAST)
            assert cells > 10
            assert contrast >= 4.5


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_on_a_phone_nothing_is_wider_than_the_page(dark: bool, pages: tuple[Path, Path], tmp_path: Path) -> None:
    with chromium(tmp_path / "profile", width=360, height=740, dark=dark) as phone:
        for page in pages:
            phone.open(page)
            assert phone.run("return document.documentElement.clientWidth") == 360
            assert phone.run(OVERFLOW) <= 0
            phone.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
            assert phone.run(OVERFLOW) <= 0
            shade = phone.run("return getComputedStyle(document.body).backgroundColor")
            assert (shade == "rgb(18, 21, 27)") is dark
        assert phone.console() == []
