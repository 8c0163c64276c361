"""Heatmaps and curves show the numbers that they are given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from elc_composer.figures.canvas import pixels
from elc_composer.figures.curves import curves, draw_curves, smooth
from elc_composer.figures.heatmap import animate, draw_heatmap, draw_small_multiples, heatmap, small_multiples
from tests.figures.contrast import contrast

ROWS = {"1": [1.0], "2": [0.75, 0.25], "3": [0.5, 0.125, 0.375], "head": [0.1, 0.2, 0.3, 0.4]}


def test_cells_hold_the_shares_and_the_rest_is_empty() -> None:
    axes = heatmap(ROWS, "title").axes[0]
    texts = {(round(t.get_position()[0]), round(t.get_position()[1])): t.get_text() for t in axes.texts}
    assert texts[(0, 0)] == "1"
    assert texts[(1, 1)] == ".25"
    assert texts[(3, 3)] == ".40"
    assert len(texts) == 10
    drawn = axes.images[0].get_array()
    assert drawn.shape == (4, 4)
    assert np.ma.count_masked(np.ma.masked_invalid(drawn)) == 6
    assert [label.get_text() for label in axes.get_yticklabels()] == list(ROWS)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["emb", "1", "2", "3"]


def test_colours_mean_the_same_in_every_picture() -> None:
    one, other = (heatmap(rows, "t").axes[0].images[0] for rows in (ROWS, {"1": [0.2], "2": [0.2, 0.2]}))
    assert one.norm(0.2) == other.norm(0.2)
    assert one.norm(0.9) > one.norm(0.2) > one.norm(0.01)


def test_numbers_stand_out_from_their_cells() -> None:
    """WCAG 2 asks a contrast of 4.5 of small text."""
    axes = heatmap({str(n): [n / 200] * 2 for n in range(1, 201, 8)}, "t").axes[0]
    image = axes.images[0]
    for text in axes.texts:
        x, y = map(round, text.get_position())
        ground = to_hex(image.cmap(image.norm(image.get_array()[y, x])))
        assert contrast(to_hex(text.get_color()), ground) >= 4.5


def test_shares_that_are_no_numbers_leave_their_cells_empty() -> None:
    axes = heatmap({"1": [1.0], "2": [float("nan"), None]}, "t").axes[0]  # type: ignore[list-item]
    assert len(axes.texts) == 1


@pytest.mark.parametrize("layers", [1, 2, 24, 40])
def test_any_depth_can_be_drawn(layers: int, tmp_path: Path) -> None:
    rows = {str(n): [1 / n] * n for n in range(1, layers + 1)}
    with Image.open(draw_heatmap(rows, tmp_path / "deep" / "a.png", "t")) as image:
        assert image.format == "PNG"
        assert image.width < 2200
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.png"], "no half picture stays"


def test_pixels_are_those_of_the_picture(tmp_path: Path) -> None:
    figure = heatmap(ROWS, "t")
    found = pixels(figure)
    assert found.dtype == np.uint8
    assert found.shape[2] == 3
    assert found.min() < 60
    assert found.max() == 255


def test_small_multiples_keep_first_and_last(tmp_path: Path) -> None:
    history = [(step, ROWS) for step in range(0, 1000, 10)]
    figure = small_multiples(history, "t", count=5)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert len(titles) == 5
    assert (titles[0], titles[-1]) == ("step 0", "step 990")
    assert draw_small_multiples(history[:1], tmp_path / "a.png", "t").exists()


def test_animation_has_a_frame_a_moment(tmp_path: Path) -> None:
    moving = {n: {"1": [1.0], "2": [n / 10, 1 - n / 10]} for n in range(5)}
    with Image.open(animate(list(moving.items()), tmp_path / "a.gif", "t", frames=3)) as image:
        assert image.n_frames == 3  # type: ignore[attr-defined]


def test_curves_draw_the_points() -> None:
    axes = curves({"loss": [(0, 3.0), (10, 2.0)], "empty": []}, "t", "nats", labels={"loss": "Loss"}, chance=0.5).axes[
        0
    ]
    assert axes.lines[0].get_xydata().tolist() == [[0.0, 3.0], [10.0, 2.0]]
    assert [line.get_label() for line in axes.lines] == ["Loss", "chance (0.5)"]
    assert axes.get_ylabel() == "nats"


def test_smoothing_is_centred_and_keeps_a_line() -> None:
    assert smooth([0.0, 1.0, 2.0, 3.0, 4.0], 3).tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert smooth([0.0, 3.0, 0.0], 3).tolist() == [0.0, 1.0, 0.0]


def test_many_curves_fit(tmp_path: Path) -> None:
    path = draw_curves({f"p{i}": [(s, s * i) for s in range(5)] for i in range(12)}, tmp_path / "a.png", "t", window=2)
    assert path.stat().st_size > 0


def test_names_are_drawn_as_they_are(tmp_path: Path) -> None:
    name = r"_$\nothing$ cost $5"
    figure = curves({name: [(0, 1.0), (1, 2.0)]}, name, name)
    assert figure.axes[0].get_legend() is not None
    figure.savefig(tmp_path / "curves.png")
    (shown,) = figure.axes[0].get_legend().get_texts()
    assert shown._preprocess_math(shown.get_text()) == (f" {name}", False)
    draw_heatmap({name: [1.0]}, tmp_path / "heatmap.png", name)
    draw_small_multiples([(0, {name: [1.0]})], tmp_path / "several.png", name)


@pytest.mark.parametrize(
    "title",
    [
        "What each layer's input consists of, step 2,200",
        "a_run_name_without_any_space_" * 6,
        "words of a long title " * 12,
        "W" * 80,
    ],
)
def test_titles_are_not_cut(title: str) -> None:
    figures = {
        "heatmap": heatmap({"1": [1.0], "2": [0.5, 0.5]}, title),
        "small multiples": small_multiples([(0, {"1": [1.0]})], title),
        "curves": curves({"loss": [(0, 1.0), (1, 2.0)]}, title),
    }
    for name, figure in figures.items():
        pixels(figure)
        (box,) = [text.get_window_extent() for text in figure.texts if text.get_text().startswith(title[:5])]
        assert box.x0 >= 0, name
        assert box.x1 <= figure.bbox.x1, name
        assert box.y1 <= figure.bbox.y1, name
        assert all(axes.get_tightbbox().y1 <= box.y0 for axes in figure.axes if axes.axison), name


def test_lone_surrogates_in_names_are_drawn_as_question_marks() -> None:
    figure = curves({"a\ud800": [(0, 1.0)]}, "title \udcff", "unit \ud800")
    pixels(figure)
    assert figure.axes[0].get_legend().get_texts()[0].get_text() == "a?"
