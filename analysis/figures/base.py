"""What all figures are made of: colours, axes, traces, and text that Plotly may read."""

import html
import itertools
import math
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from analysis.quantity import ACCURACY, Quantity
from analysis.text import printable
from analysis.trials import Trial

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
# On paper. The page sets texts and lines by its own style sheet, light or dark.
INK, GRID, PAPER = "#1c2024", "#dfe3e8", "#ffffff"
# Okabe and Ito's palette for all kinds of colour vision (2008), on light and on dark ground.
BLUE, VERMILION, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
ORANGE, SKY, GREY, FAINT = "#e69f00", "#56b4e9", "#7d858d", "rgba(125,133,141,0.45)"
LEVELS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross")
LABEL = 30  # characters of a label; the rest is in the table
FAR = 6  # times as far below the median as the best is above it: a failure
MOST_ROWS = 60  # rows of a figure with a row per level or parameter
MOST_DOTS = 400  # single trials of a level or a parameter
MOST_POINTS = 1500  # trials or candidates in a plot
T = TypeVar("T")


@dataclass(frozen=True)
class Figure:
    """One figure. `title`, `alt` and `note` are plain text; what Plotly reads is escaped."""

    name: str  # of its element and its file: letters, digits and hyphens
    title: str
    alt: str  # what it shows, for those who do not see it
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    height: int = 340  # pixels
    note: str = ""  # how to read it
    least: int = 0  # pixels of width that it needs: scrolls sideways where there are fewer
    most: int = 0  # pixels of width that are enough; 0: as wide as can be

    def as_dict(self) -> dict[str, Any]:
        """Return what Plotly draws."""
        return {"data": self.data, "layout": self.layout}


@dataclass(frozen=True)
class Level:
    """A level of a factor and its finished trials, by the condition that pairs them."""

    label: str
    trials: Mapping[Hashable, Trial]
    reference: bool = False  # what the others are compared with


def plain(text: str, longest: int | None = None) -> str:
    """Write foreign text for Plotly, which would read `<b>` and `&lt;` as HTML; cut if long."""
    text = printable(text)
    if longest is not None and len(text) > longest:
        text = text[: longest - 1] + "…"
    # Plotly knows no quotes as entities, and needs none: it never puts texts into attributes.
    return html.escape(text, quote=False)


def slug(name: str, index: int) -> str:
    """Make the part of a figure's name that says whose it is: unique, and fit for a file."""
    kept = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:LABEL]
    return f"{index + 1}-{kept}" if kept else f"{index + 1}"


def points(fraction: float) -> str:
    """Write a difference of accuracies in percentage points, with its sign."""
    return f"{100 * fraction:+.2f}".replace("-", "−")


def rounded(values: Iterable[float | None]) -> list[float | None]:
    """Keep five digits: more would double the page and move no pixel. Not finite is None."""
    return [
        None if value is None or not math.isfinite(value) else float(f"{value:.5g}")
        for value in values
    ]


def scaled(quantity: Quantity, values: Iterable[float | None]) -> list[float | None]:
    """Turn values of a compared figure into what is shown."""
    return rounded(None if value is None else quantity.scale * value for value in values)


def percents(values: Iterable[float | None]) -> list[float | None]:
    """Turn fractions into percent."""
    return rounded(None if value is None else 100 * value for value in values)


def axis(title: str = "", **more: Any) -> dict[str, Any]:
    """Return an axis; `title` is read as HTML."""
    return {
        "title": {"text": title, "standoff": 8, "font": {"size": 13}},
        "automargin": True,
        "gridcolor": GRID,
        "linecolor": GRID,
        "zeroline": False,
        "fixedrange": False,
    } | more


def layout(**more: Any) -> dict[str, Any]:
    """Return the layout that all figures share, and `more`."""
    return {
        "font": {"family": FONT, "size": 13, "color": INK},
        "paper_bgcolor": PAPER,
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 8, "r": 12, "t": 8, "b": 8},
        "hovermode": "closest",
        "showlegend": False,
        "legend": {
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": 1.02,
            "yanchor": "bottom",
            "bgcolor": "rgba(0,0,0,0)",
        },
    } | more


def ticks(labels: Sequence[str], positions: Sequence[float] | None = None) -> dict[str, Any]:
    """Return an axis' part that puts labels at 0, 1, 2, ... or at the positions given."""
    return {
        "tickmode": "array",
        "tickvals": list(range(len(labels)) if positions is None else positions),
        "ticktext": list(labels),
    }


def row_axis(labels: Sequence[str]) -> dict[str, Any]:
    """Return an axis with a row for each label, the first on top."""
    return axis(
        **ticks([plain(label, LABEL) for label in labels]),
        range=[len(labels) - 0.5, -0.5],
        showgrid=False,
        fixedrange=True,
    )


def bars(
    above: Iterable[float | None],
    below: Iterable[float | None],
    quantity: Quantity = ACCURACY,
    **style: Any,
) -> dict[str, Any]:
    """Return the bars of intervals, by how far each reaches above and below."""
    return {
        "type": "data",
        "symmetric": False,
        "array": scaled(quantity, above),
        "arrayminus": scaled(quantity, below),
    } | style


def scatter(
    x: Sequence[Any], y: Sequence[Any], text: Sequence[str] | None = None, **more: Any
) -> dict[str, Any]:
    """Return points or lines; `text` is shown for the one that is pointed at."""
    trace: dict[str, Any] = {"type": "scatter", "x": list(x), "y": list(y)}
    if text is None:
        trace["hoverinfo"] = "skip"
    else:
        trace |= {"text": list(text), "hovertemplate": "%{text}<extra></extra>"}
    return trace | more


def band(
    x: Sequence[float | None],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    shade: str,
    opacity: str = "26",  # of 255, in hexadecimal
) -> dict[str, Any]:
    """Return a shaded band between two curves."""
    return scatter(
        [*x, *reversed(x)],
        rounded([*high, *low[::-1]]),
        mode="lines",
        fill="toself",
        fillcolor=shade + opacity,
        line={"width": 0},
        showlegend=False,
    )


def shades(levels: Sequence[Level]) -> list[str]:
    """Return a colour for each level; references are grey."""
    others = itertools.cycle(LEVELS)
    return [GREY if level.reference else next(others) for level in levels]


def sample(values: Sequence[T], most: int) -> list[T]:
    """Pick at most `most` values, evenly over their order: the same ones every time."""
    if len(values) <= most:
        return list(values)
    return [values[round(index)] for index in np.linspace(0, len(values) - 1, most)]


def limits(values: Sequence[float], shown: Sequence[float]) -> tuple[float, float] | None:
    """Return limits of an axis that a few failures would else stretch; None where none do.

    Args:
        values: everything drawn.
        shown: what must be inside.
    """
    middle, top = float(np.median(values)), max(values)
    low = min([middle - FAR * (top - middle), *shown])
    room = 0.06 * (top - low)
    return None if min(values) >= low or room == 0 else (low - room, top + room)


def clipped(
    quantity: Quantity, values: Sequence[float], inside: Sequence[float]
) -> tuple[float, float] | None:
    """Return `limits` for accuracies; of other figures the far end may be the good one."""
    return limits(values, inside) if quantity.is_accuracy else None


def within(bounds: tuple[float, float] | None) -> dict[str, Any]:
    """Return an axis' part with these limits, given as fractions."""
    return {} if bounds is None else {"range": percents(bounds)}
