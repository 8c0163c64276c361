"""Curves are told apart by readers of any colour vision, on the page and in pictures, and stand out from the ground."""

from __future__ import annotations

import re
from importlib.resources import files
from itertools import combinations

import numpy as np
import pytest

from elc_composer.figures.canvas import SERIES

# linear RGB as it is seen; Machado, Oliveira and Fernandes 2009, severity 1
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
XYZ = np.array([[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]])


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(colour: str, vision: str) -> np.ndarray:
    white = XYZ @ np.ones(3)
    part = XYZ @ np.clip(VISION[vision] @ linear(colour), 0, 1) / white
    x, y, z = np.where(part > 0.008856, np.cbrt(part), 7.787 * part + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(one: str, other: str) -> float:
    low, high = sorted(float(XYZ[1] @ linear(colour)) + 0.05 for colour in (one, other))
    return high / low


def palettes() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Ground and curves: of pictures, and of the page's light, dark and printed form, in that order of its styles."""
    style = (files("elc_composer.report") / "template" / "style.css").read_text(encoding="utf-8")
    found = {"pictures": ("#ffffff", SERIES)}
    for name, block in zip(("light", "dark", "print"), re.findall(r":root \{(.*?)\}", style, re.DOTALL)):
        (ground,) = re.findall(r"--card: (#\w{6})", block)
        found[name] = (ground, tuple(re.findall(r"--s\d: (#\w{6})", block)))
    return found


@pytest.mark.parametrize("where", ["pictures", "light", "dark", "print"])
def test_curves_are_told_apart(where: str) -> None:
    ground, colours = palettes()[where]
    assert len(colours) == 8
    assert all(contrast(colour, ground) >= 3 for colour in colours)
    for vision in VISION:
        for one, other in combinations(colours, 2):
            assert np.linalg.norm(lab(one, vision) - lab(other, vision)) > 25, (vision, one, other)


def test_pictures_and_the_page_have_the_same_colours() -> None:
    assert palettes()["light"][1] == palettes()["print"][1] == SERIES
