"""Accuracy against what it costs, with the Pareto front."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.figures.base import (
    BLUE,
    FAINT,
    GREY,
    LABEL,
    MOST_POINTS,
    VERMILION,
    Figure,
    axis,
    clipped,
    layout,
    plain,
    rounded,
    sample,
    scaled,
    scatter,
    within,
)
from analysis.quantity import Quantity
from analysis.statistics.effects import Moments, summarize
from analysis.statistics.pareto import front

MOST_BARS = 200  # variants with a bar


@dataclass(frozen=True)
class Point:
    """A variant in a plot of accuracy against cost."""

    label: str
    accuracies: Sequence[float]  # (n,) by seed
    cost: float
    baseline: bool = False


@dataclass(frozen=True)
class Placed:
    """A variant with its mean, and its cost in words."""

    variant: Point
    summary: Moments
    cost_text: str

    @property
    def mean(self) -> float:
        """The mean accuracy, a fraction."""
        return self.summary.mean or 0.0


def against_cost(
    variants: Sequence[Point],
    name: str,
    title: str,
    number: Callable[[float], str],
    quantity: Quantity,
) -> Figure | None:
    """Draw accuracy against a cost, with the variants that no other beats in both.

    Args:
        variants: at least two with different costs; else there is no figure.
        name: of the figure.
        title: of the cost, with its unit.
        number: writes a cost.
        quantity: what the values are.
    """
    if len({point.cost for point in variants}) < 2:
        return None
    points = [Placed(point, summarize(point.accuracies), number(point.cost)) for point in variants]
    up = "MINIMIZE" if quantity.lower_is_better else "MAXIMIZE"
    marked = front([(point.mean, point.variant.cost) for point in points], [up, "MINIMIZE"])
    best = [point for point, on_front in zip(points, marked, strict=True) if on_front]
    best.sort(key=lambda point: point.variant.cost)
    behind = [point for point, on_front in zip(points, marked, strict=True) if not on_front]
    rest = sample(behind, MOST_POINTS)
    baseline = [point for point in points if point.variant.baseline]
    with_bars = len(best) + len(rest) <= MOST_BARS
    inside = [p.mean for p in [*best, *baseline]]
    shown = clipped(quantity, [p.mean for p in points], inside)
    below = 0 if shown is None else sum(point.mean < shown[0] for point in points)
    costs = [point.cost for point in variants]
    logarithmic = min(costs) > 0 and max(costs) / min(costs) > 8
    return Figure(
        name,
        f"{quantity.heading} against {title}",
        f"Mean {quantity.name} against {title} for {len(points)} variants; {len(best)} on the "
        "front.",
        _traces(quantity, rest, best, baseline, with_bars=with_bars),
        layout(
            xaxis=axis(title, **({"type": "log", "dtick": "D2"} if logarithmic else {})),
            yaxis=axis(plain(quantity.axis), **within(shown)),
            showlegend=True,
        ),
        note=f"Mean {quantity.name}"
        + (", bars: ± one standard deviation" if with_bars else "")
        + ". The front is that of the means: a variant may be on it by luck."
        + (f" {below:,} lower than this figure reaches: double-click shows all." if below else "")
        + (
            f" {len(behind) - len(rest):,} variants behind the front are not drawn."
            if len(behind) > len(rest)
            else ""
        ),
    )


def _traces(
    quantity: Quantity,
    rest: Sequence[Placed],
    best: Sequence[Placed],
    baseline: Sequence[Placed],
    *,
    with_bars: bool,
) -> list[dict[str, Any]]:
    """Draw the front, the variants behind it, and a ring about the baseline."""
    rings = {"color": VERMILION, "size": 14, "symbol": "circle-open", "line": {"width": 2}}
    styles: list[tuple[Sequence[Placed], dict[str, Any]]] = [
        (
            rest,
            {
                "mode": "markers",
                "name": "other variants",
                "marker": {"color": GREY, "size": 7, "symbol": "circle-open", "opacity": 0.8},
            },
        ),
        (
            best,
            {
                "mode": "lines+markers",
                "name": "Pareto front",
                "line": {"color": BLUE, "width": 1.5, "shape": "hv"},
                "marker": {"color": BLUE, "size": 9},
            },
        ),
    ]
    if baseline:
        styles.append((baseline, {"mode": "markers", "name": "baseline", "marker": rings}))
    return [_trace(quantity, points, with_bars=with_bars, **style) for points, style in styles]


def _trace(
    quantity: Quantity, points: Sequence[Placed], *, with_bars: bool, **style: Any
) -> dict[str, Any]:
    bars = {
        "type": "data",
        "array": scaled(quantity, (point.summary.std for point in points)),
        "thickness": 1,
        "width": 0,
        "color": FAINT,
    }
    return scatter(
        rounded(point.variant.cost for point in points),
        scaled(quantity, (point.mean for point in points)),
        [
            f"<b>{plain(point.variant.label, 2 * LABEL)}</b><br>{quantity.amount(point.mean)} "
            f"(n = {point.summary.n})<br>{plain(point.cost_text)}"
            for point in points
        ],
        **({"error_y": bars} if with_bars else {}),
        **style,
    )
