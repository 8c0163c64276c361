"""Colours of the page: themes for light screens, dark screens and paper."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from elc_composer.figures.canvas import SERIES

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
COLORSCALE_STOPS = 21


@dataclass(frozen=True)
class Theme:
    """Hexadecimal colours, and the strengths from which a cell's number needs the other ink."""

    page: str
    card: str
    ink: str
    muted: str
    line: str
    rule: str
    warn: str
    heat: str
    """Full strength of a heatmap cell, and of an accuracy above one half."""
    low: str
    """Full strength of an accuracy below one half."""
    on_pale: str
    on_strong: str
    heat_turn: float
    """Strength (0 to 1) above which numbers on `heat` are written in `on_strong`."""
    low_turn: float
    series: tuple[str, ...]
    """Curves; distinguishable with any kind of colour vision, and with a contrast of at least 3 to `card`."""

    def css_variables(self) -> dict[str, str]:
        """CSS custom property -> colour."""
        names = [field.name for field in fields(self) if field.name not in ("heat_turn", "low_turn", "series")]
        variables = {f"--{name.replace('_', '-')}": getattr(self, name) for name in names}
        return variables | {f"--series-{number}": colour for number, colour in enumerate(self.series)}

    def colorscale(self) -> list[tuple[float, str]]:
        """Plotly colorscale of shares; strength is the square root of the share, so that small shares differ."""
        strengths = [stop / (COLORSCALE_STOPS - 1) for stop in range(COLORSCALE_STOPS)]
        return [(strength**2, mix(self.card, self.heat, strength)) for strength in strengths]

    def template(self) -> dict[str, Any]:
        """Plotly template: fonts and colours of everything but the curves."""
        axis = {
            "gridcolor": self.line,
            "linecolor": self.line,
            "zeroline": False,
            "zerolinecolor": self.rule,
            "automargin": True,
        }
        return {
            "layout": {
                "font": {"family": FONT, "size": 11, "color": self.muted},
                "paper_bgcolor": self.card,
                "plot_bgcolor": self.card,
                "hoverlabel": {
                    "bgcolor": self.card,
                    "bordercolor": self.rule,
                    "font": {"color": self.ink},
                    "namelength": -1,
                },
                "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": self.rule, "activecolor": self.ink},
                "legend": {"font": {"color": self.ink}},
                "shapedefaults": {"line": {"color": self.rule, "width": 1, "dash": "dash"}, "layer": "below"},
                "xaxis": axis,
                "yaxis": axis,
            }
        }

    def for_page(self) -> dict[str, Any]:
        """What the page's script needs."""
        return {
            "template": self.template(),
            "colorscale": self.colorscale(),
            "series": self.series,
            "rule": self.rule,
            "warn": self.warn,
            "onPale": self.on_pale,
            "onStrong": self.on_strong,
            "heatTurn": self.heat_turn,
        }


def mix(ground: str, colour: str, strength: float) -> str:
    """The colour that CSS `color-mix(in srgb, colour strength, ground)` gives, as `#rrggbb`."""
    parts = [(int(ground[i : i + 2], 16), int(colour[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(low + (high - low) * strength):02x}" for low, high in parts)


LIGHT = Theme(
    page="#f6f7f9",
    card="#ffffff",
    ink="#1f2430",
    muted="#5b6472",
    line="#e1e5ea",
    rule="#8a93a0",
    warn="#9a4d00",
    heat="#1d5fae",
    low="#c2571b",
    on_pale="#000000",
    on_strong="#ffffff",
    heat_turn=0.845,
    low_turn=1.0,
    series=SERIES,
)
DARK = Theme(
    page="#12151b",
    card="#1a1f27",
    ink="#e6e9ee",
    muted="#9aa4b2",
    line="#2c333e",
    rule="#6d7786",
    warn="#f0b168",
    heat="#6db1ff",
    low="#ff9a5c",
    on_pale="#ffffff",
    on_strong="#000000",
    heat_turn=0.605,
    low_turn=0.585,
    series=("#6db1ff", "#ff9a5c", "#eeffc8", "#854be2", "#97aba3", "#e30052", "#e8cf02", "#9e599c"),
)
PRINT = Theme(
    page="#ffffff",
    card="#ffffff",
    ink="#000000",
    muted="#444444",
    line="#cccccc",
    rule="#777777",
    warn="#7a3d00",
    heat="#1d5fae",
    low="#c2571b",
    on_pale="#000000",
    on_strong="#ffffff",
    heat_turn=0.845,
    low_turn=1.0,
    series=SERIES,
)
THEMES = {"light": LIGHT, "dark": DARK, "print": PRINT}
