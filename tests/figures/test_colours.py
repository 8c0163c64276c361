"""Colours of curves and cells: distinguishable with any kind of colour vision, with enough contrast."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from elc_composer.figures.canvas import SERIES
from elc_composer.report.theme import THEMES, mix
from tests.figures.contrast import XYZ, contrast, linear

# matrices on linear RGB; Machado, Oliveira and Fernandes 2009, severity 1
VISION = {
    "usual": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def lab(colour: str, vision: str) -> np.ndarray:
    white = XYZ @ np.ones(3)
    part = XYZ @ np.clip(VISION[vision] @ linear(colour), 0, 1) / white
    x, y, z = np.where(part > 0.008856, np.cbrt(part), 7.787 * part + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def palettes() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Background and curves of pictures and of the page's themes."""
    found = {"pictures": ("#ffffff", SERIES)}
    return found | {name: (theme.card, theme.series) for name, theme in THEMES.items()}


@pytest.mark.parametrize("where", ["pictures", "light", "dark", "print"])
def test_curves_are_distinguishable(where: str) -> None:
    ground, colours = palettes()[where]
    assert len(colours) == 8
    assert all(contrast(colour, ground) >= 3 for colour in colours)
    for vision in VISION:
        for one, other in combinations(colours, 2):
            assert np.linalg.norm(lab(one, vision) - lab(other, vision)) > 25, (vision, one, other)


def test_pictures_and_the_page_have_the_same_colours() -> None:
    assert THEMES["light"].series == THEMES["print"].series == SERIES


@pytest.mark.parametrize("name", THEMES)
@pytest.mark.parametrize("tone", ["heat", "low"])
def test_numbers_are_readable_on_cells_of_any_strength(name: str, tone: str) -> None:
    """WCAG 2 requires a contrast of 4.5 for small text."""
    theme = THEMES[name]
    turn = getattr(theme, f"{tone}_turn")
    for strength in np.linspace(0, 1 if tone == "heat" else 0.9, 100):
        ink = theme.on_strong if strength > turn else theme.on_pale
        assert contrast(ink, mix(theme.card, getattr(theme, tone), strength)) >= 4.5


def test_text_is_readable_on_every_theme() -> None:
    for theme in THEMES.values():
        for ink in (theme.ink, theme.muted, theme.warn):
            assert contrast(ink, theme.card) >= 4.5
            assert contrast(ink, theme.page) >= 4.5
