"""The page in a real browser: sliders, charts, hiding of runs, zoom, PNG export, print, phone width, dark mode."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from elc_composer.report.__main__ import main
from elc_composer.report.theme import THEMES
from tests.report.browser import Browser, chromium
from tests.report.synthetic import shares, write_lines, write_run

SLIDER = "#weights input[type=range]"
NEXT_FRAME = "return new Promise((done) => requestAnimationFrame(() => setTimeout(done)))"
CELLS = "return document.querySelector('#weights [data-run=\"{run}\"] .stage').data?.[1].text.slice(-3)"
INKS = """
const [heatmap, numbers] = document.querySelector('#weights .stage').data;
return numbers.x.map((source, i) => [heatmap.z[numbers.y[i]][source], numbers.textfont.color[i]]);
"""
CONTRAST = """
const light = (text) => {
  let parts = text.match(/[\\d.]+/g).slice(0, 3).map(Number);
  if (text.startsWith("rgb")) parts = parts.map((part) => part / 255);
  const [r, g, b] = parts.map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
};
const cells = [...document.querySelectorAll("#pairs .grid td[class]")];
const seen = cells.map((cell) => [getComputedStyle(cell).color, getComputedStyle(cell).backgroundColor].map(light));
return [cells.length, Math.min(...seen.map(([text, ground]) => Math.max(text / ground, ground / text)))];
"""
OVERFLOW = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
UNDRAWN = "return [...document.querySelectorAll('.stage')].filter((each) => each.clientWidth && !each.data).length"
LONG_NAME = "another_run_with_a_name_that_is_far_too_long_for_a_phone"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A page of one run, and one that compares two, of a long name and many columns."""
    folder = tmp_path_factory.mktemp("pages")
    one = write_run(folder / "one", name="one")
    two = write_run(folder / "two", name=LONG_NAME, mixing=-1.0)
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


def wait_for(condition: Callable[[], Any]) -> Any:
    """The condition's first true value: the browser draws what comes into view a moment later."""
    deadline = time.monotonic() + 30
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return value


def show(browser: Browser, selector: str) -> None:
    """Scroll to an element and wait until its charts are drawn."""
    browser.run(f"document.querySelector({selector!r}).scrollIntoView()")
    next_one = f"""
    const stages = [...document.querySelectorAll({f"{selector} .stage"!r})];
    const undrawn = stages.find((each) => each.clientWidth && !each.data);
    undrawn?.scrollIntoView();
    return undrawn === undefined;
    """
    wait_for(lambda: browser.run(next_one))


def test_keys_on_a_slider_move_all_heatmaps(pages: tuple[Path, Path], browser: Browser) -> None:
    browser.open(pages[1])
    show(browser, "#weights")
    assert browser.run(CELLS.format(run=0)) == row_at(90)
    assert browser.run(CELLS.format(run=1)) == row_at(90, -1.0)
    browser.press(SLIDER, "left", "left", "left")
    browser.run(NEXT_FRAME)
    assert browser.run(CELLS.format(run=0)) == row_at(60)
    assert browser.run(CELLS.format(run=1)) == row_at(60, -1.0)
    assert browser.run(f"return document.querySelector('{SLIDER}').getAttribute('aria-valuetext')") == "step 60"
    assert browser.run("return document.querySelector('#mixed figcaption').textContent") == "one, step 60"
    browser.press(SLIDER, "home")
    browser.run(NEXT_FRAME)
    assert browser.run(CELLS.format(run=0)) == [".33", ".33", ".33"]
    assert browser.console() == []


def test_histograms_follow_the_slider(pages: tuple[Path, Path], browser: Browser) -> None:
    browser.open(pages[0], "#step=0")
    show(browser, "#distributions")
    peak = "return document.querySelector('[data-histogram=embedding] .stage').data[0].customdata[3]"
    assert browser.run(peak) == pytest.approx(10 / 22)
    browser.press("#distributions input[type=range]", "end")
    browser.run(NEXT_FRAME)
    assert browser.run(peak) == pytest.approx(90 / 102)


def test_an_address_names_a_step(pages: tuple[Path, Path], browser: Browser) -> None:
    browser.open(pages[0], "#step=35")
    show(browser, "#weights")
    assert browser.run(CELLS.format(run=0)) == row_at(30)


def test_all_charts_are_drawn_without_the_network(pages: tuple[Path, Path], browser: Browser) -> None:
    browser.open(pages[0])
    for section in ("loss", "pairs", "mixed", "distributions", "speed", "gradients", "learning-rate"):
        show(browser, f"#{section}")
        assert browser.run(f"return document.querySelectorAll('#{section} .stage svg path').length") > 0
    assert browser.run("return document.querySelectorAll('.js-plotly-plot').length") > 10
    label = browser.run("return document.querySelector('#panel-loss').getAttribute('aria-label')")
    assert label.startswith("Masked-LM loss: one, train from 5 at step 0 to 0.84")
    unlabelled = "return [...document.querySelectorAll('figure:has(.js-plotly-plot):not([aria-label])')].length"
    assert browser.run(unlabelled) == 0
    assert browser.run("return performance.getEntriesByType('resource').length") == 0
    assert browser.console() == []


def test_values_are_shown_as_a_table(pages: tuple[Path, Path], browser: Browser) -> None:
    browser.open(pages[0])
    browser.click("#panel-loss summary")
    rows = "return [...document.querySelectorAll('#panel-loss tbody tr')].map((row) => row.innerText.split('\\t'))"
    found = wait_for(lambda: browser.run(rows))
    assert len(found) == 40
    assert found[0] == ["0", "5", "5.1"]
    show(browser, "#weights")
    browser.click("#weights summary")
    cells = "return document.querySelector('#weights tbody tr:last-child')?.innerText.split('\\t')"
    assert wait_for(lambda: browser.run(cells))[1:] == [f"{share:.4g}" for share in shares(3, 90)]


def test_one_figure_of_the_distributions_is_shown(pages: tuple[Path, Path], browser: Browser) -> None:
    browser.open(pages[0])
    browser.run(
        "const list = document.querySelector('#figure');"
        "list.value = 'grad_norm'; list.dispatchEvent(new Event('change'))"
    )
    show(browser, "#distributions")
    assert (
        browser.run("return document.querySelector('#distributions h3').textContent") == "Gradient norm over training"
    )
    charts = "[...document.querySelectorAll('[data-figure]')].filter((each) => each.clientWidth)"
    shown = browser.run(f"return {charts}.map((each) => each.dataset.figure)")
    assert shown == ["grad_norm"] * 4


def test_a_run_can_be_hidden_everywhere(pages: tuple[Path, Path], browser: Browser) -> None:
    browser.open(pages[1])
    show(browser, "#loss")
    runs = "return [...new Set(document.querySelector('#panel-loss .stage').data.map((trace) => trace.meta.run))]"
    assert browser.run(runs) == [0, 1]
    browser.click("#shown label:nth-child(2) input")
    assert browser.run(runs) == [0]
    assert browser.run("return document.querySelector('#weights [data-run=\"1\"]').hidden") is True
    assert browser.run("return document.querySelector('#pairs [data-run=\"1\"]').hidden") is True
    assert LONG_NAME not in browser.run("return document.querySelector('#panel-loss').getAttribute('aria-label')")
    browser.click("#shown label:nth-child(2) input")
    assert browser.run(runs) == [0, 1]


def test_zoom_and_legend_choices_survive_a_redraw(pages: tuple[Path, Path], browser: Browser) -> None:
    browser.open(pages[1])
    show(browser, "#loss")
    browser.run("Plotly.relayout(document.querySelector('#panel-loss .stage'), {'xaxis.range': [10, 20]})")
    legend_entry = "#panel-loss .legendtoggle"
    browser.run(
        f"for (const name of ['mousedown', 'mouseup']) document.querySelector('{legend_entry}')"
        ".dispatchEvent(new MouseEvent(name, { bubbles: true }))"
    )
    states = "return document.querySelector('#panel-loss .stage')._fullData.map((trace) => trace.visible)"
    wait_for(lambda: "legendonly" in browser.run(states))
    browser.click("#shown label:nth-child(2) input")
    assert browser.run("return document.querySelector('#panel-loss .stage')._fullLayout.xaxis.range") == [10, 20]
    assert browser.run(states)[0] == "legendonly"


def test_a_chart_is_saved_as_png(pages: tuple[Path, Path], browser: Browser, tmp_path: Path) -> None:
    browser.allow_downloads(tmp_path)
    browser.open(pages[0])
    for section, name in (("loss", "Masked-LM loss.png"), ("weights", "one weights.png")):
        show(browser, f"#{section}")
        browser.run(f"document.querySelector('#{section} [data-title^=\"Download plot\"]').click()")
        wait_for((tmp_path / name).exists)
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert browser.console() == []


def test_on_paper_heatmaps_of_two_runs_stand_side_by_side(tmp_path: Path, browser: Browser) -> None:
    runs = [write_run(tmp_path / name, name=name) for name in ("one", "two")]
    for run in runs:
        deep = {str(layer): shares(layer, 10) for layer in range(1, 25)}
        write_lines(run / "layer_weights.jsonl", [{"step": 10, "layers": deep}])
    assert main([*map(str, runs), "--out", str(tmp_path / "page.html")]) == 0
    browser.open(tmp_path / "page.html")
    browser.run("window.dispatchEvent(new Event('beforeprint'))")
    widths = browser.run("return [...document.querySelectorAll('#weights .main-svg')].map((svg) => svg.clientWidth)")
    assert max(widths) == 340
    browser.run("window.dispatchEvent(new Event('afterprint'))")


def test_on_paper_all_charts_are_light_and_as_wide_as_the_paper(pages: tuple[Path, Path], tmp_path: Path) -> None:
    width = "return document.querySelector('#panel-{} .main-svg').clientWidth"
    ground = "return document.querySelector('#panel-loss .stage')._fullLayout.paper_bgcolor"
    with chromium(tmp_path / "profile", dark=True) as window:
        window.open(pages[0])
        show(window, "#loss")
        before = window.run(width.format("loss"))
        assert window.run(ground) == THEMES["dark"].card
        assert window.run(UNDRAWN) > 0
        window.run("window.dispatchEvent(new Event('beforeprint'))")
        assert window.run(UNDRAWN) == 0
        assert window.run(width.format("loss")) == 700
        assert window.run(width.format("distributions-quantiles-embedding")) == 225
        assert window.run(ground) == "#ffffff"
        window.run("window.dispatchEvent(new Event('afterprint'))")
        assert window.run(width.format("loss")) == before != 700
        assert window.run(ground) == THEMES["dark"].card
        for _ in range(3):  # a printed page stays usable
            window.run("window.dispatchEvent(new Event('beforeprint')); window.dispatchEvent(new Event('afterprint'))")
        assert window.print_pdf().startswith(b"%PDF")
        assert window.run(width.format("loss")) == before


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_numbers_in_cells_are_readable(dark: bool, pages: tuple[Path, Path], tmp_path: Path) -> None:
    """WCAG 2 requires a contrast of 4.5 for small text; tests/figures/test_colours.py computes that of the inks."""
    theme = THEMES["dark" if dark else "light"]
    with chromium(tmp_path / "profile", dark=dark) as window:
        window.open(pages[0])
        cells, contrast = window.run(CONTRAST)
        assert cells > 10
        assert contrast >= 4.5
        show(window, "#weights")
        for step in range(0, 100, 10):
            window.run(f"location.hash = 'step={step}'; window.dispatchEvent(new Event('hashchange'))")
            window.run(NEXT_FRAME)
            for share, ink in window.run(INKS):
                assert ink == (theme.on_strong if share**0.5 > theme.heat_turn else theme.on_pale)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_nothing_is_wider_than_a_phone(dark: bool, pages: tuple[Path, Path], tmp_path: Path) -> None:
    with chromium(tmp_path / "profile", width=360, height=740, dark=dark) as phone:
        for page in pages:
            phone.open(page)
            assert phone.run("return document.documentElement.clientWidth") == 360
            phone.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
            for section in ("loss", "pairs", "weights", "mixed", "distributions", "speed", "gradients"):
                show(phone, f"#{section}")
            assert phone.run(OVERFLOW) <= 0
            wide = "return [...document.querySelectorAll('.stage')].filter((e) => e.scrollWidth > e.clientWidth).length"
            assert phone.run(wide) == 0
            shade = phone.run("return getComputedStyle(document.body).backgroundColor")
            assert (shade == "rgb(18, 21, 27)") is dark
        assert phone.console() == []


def test_a_finger_on_a_chart_scrolls_the_page(pages: tuple[Path, Path], tmp_path: Path) -> None:
    with chromium(tmp_path / "profile", width=360, height=740, touch=True) as phone:
        phone.open(pages[0])
        show(phone, "#loss")
        assert phone.run("return document.querySelector('#panel-loss .stage')._fullLayout.dragmode") is False
        phone.run("document.querySelector('#loss').scrollIntoView()")
        before = phone.run("return window.scrollY")
        phone.swipe_up("#panel-loss .stage", 100)
        wait_for(lambda: phone.run("return window.scrollY") > before + 50)
