"""Figures of a search: its course, what matters, and how accuracy depends on each parameter."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis.figures.base import (
    BLUE,
    GREY,
    LABEL,
    MOST_DOTS,
    MOST_POINTS,
    MOST_ROWS,
    ORANGE,
    SKY,
    VERMILION,
    Figure,
    axis,
    band,
    bars,
    clipped,
    layout,
    percents,
    plain,
    rounded,
    row_axis,
    sample,
    scaled,
    scatter,
    ticks,
    within,
)
from analysis.quantity import ACCURACY, Quantity
from analysis.statistics.candidates import Curve
from analysis.statistics.dependence import Dependence
from analysis.statistics.importance import Importances, Share
from analysis.trials import Trial
from fmnist_common.text import level_text


def best_so_far(
    curve: Curve, trials: Mapping[int, Trial], quantity: Quantity = ACCURACY
) -> Figure | None:
    """Draw the best accuracy of a search over the epochs it spent, and each trial's own."""
    if not np.isfinite(curve.best).any():
        return None
    drawn = [
        (int(n), int(e), trials[int(n)]) for n, e in zip(curve.trials, curve.epochs, strict=True)
    ]
    kinds = {"COMPLETE": ("finished", SKY, "circle"), "PRUNED": ("pruned", ORANGE, "x-thin")}
    data = []
    for state, (word, shade, symbol) in kinds.items():
        shown = sample(
            [(n, e, t.value) for n, e, t in drawn if t.state == state and t.value is not None],
            MOST_POINTS,
        )
        if shown:
            data.append(
                scatter(
                    [spent for _, spent, _ in shown],
                    scaled(quantity, (value for _, _, value in shown)),
                    [f"trial {n} ({word}): {quantity.amount(value)}" for n, _, value in shown],
                    mode="markers",
                    name=word,
                    marker={"color": shade, "symbol": symbol, "size": 7, "opacity": 0.8,
                            "line": {"width": 1.5, "color": shade}},
                )
            )  # fmt: skip
    data.append(
        scatter(
            curve.epochs.tolist(),
            scaled(quantity, curve.best.tolist()),
            [
                f"best after {e:,} epochs: {quantity.amount(b)}" if math.isfinite(b) else ""
                for e, b in zip(curve.epochs.tolist(), curve.best.tolist(), strict=True)
            ],
            mode="lines",
            name="best finished so far",
            line={"color": BLUE, "width": 2, "shape": "hv"},
        )
    )
    reached = curve.best[np.isfinite(curve.best)].tolist()
    values = [t.value for _, _, t in drawn if t.value is not None and math.isfinite(t.value)]
    return Figure(
        "best-so-far",
        "Best so far",
        f"Best {quantity.name} of a finished trial against the epochs spent.",
        data,
        layout(
            xaxis=axis("epochs of training spent", rangemode="tozero"),
            yaxis=axis(plain(quantity.axis), **within(clipped(quantity, values, reached))),
            showlegend=True,
        ),
        note="A step is the luckiest single run so far, not a proven mean. Crosses: pruned, at the "
        f"{quantity.noun} where they stopped.",
    )


def importance(importances: Importances) -> Figure | None:
    """Draw each parameter's share of the importance with its interval, by two methods."""
    shown = importances.parameters[:MOST_ROWS]
    if not shown:
        return None
    series: list[tuple[str, str, str, float, list[Share | None]]] = [
        ("PED-ANOVA", BLUE, "circle", -0.14, [row.ped_anova for row in shown]),
        ("fANOVA", VERMILION, "diamond", 0.14, [row.fanova for row in shown]),
    ]
    data = []
    for name, shade, symbol, shift, shares in series:
        rows = [(row, share) for row, share in enumerate(shares) if share is not None]
        data.append(
            scatter(
                percents(share.share for _, share in rows),
                [row + shift for row, _ in rows],
                [
                    f"<b>{plain(shown[row].parameter, 2 * LABEL)}</b><br>{name}: "
                    f"{100 * share.share:.1f} % [{100 * share.low:.1f}, {100 * share.high:.1f}]"
                    for row, share in rows
                ],
                mode="markers",
                name=name,
                marker={"color": shade, "symbol": symbol, "size": 9},
                error_x=bars(
                    (share.high - share.share for _, share in rows),
                    (share.share - share.low for _, share in rows),
                    color=shade,
                    thickness=2,
                    width=0,
                ),
            )
        )
    return Figure(
        "importance",
        "Importance of each parameter",
        f"Share of the importance of {len(shown)} parameters with 95 % intervals.",
        data,
        layout(
            xaxis=axis("share of the importance, %", rangemode="tozero"),
            yaxis=row_axis([row.parameter for row in shown]),
            showlegend=True,
        ),
        height=110 + 34 * len(shown),
        note="Lines: 95 % bootstrap intervals. PED-ANOVA: what it takes to be among the best "
        "tenth; fANOVA: each parameter's own share of the variance.",
    )


def dependence(partial: Dependence, name: str, quantity: Quantity = ACCURACY) -> Figure:
    """Draw how accuracy depends on a parameter: every trial, and what a forest makes of them."""
    sampled = sample(partial.trials, MOST_DOTS)
    places = {level: index for index, level in enumerate(map(level_text, partial.grid))}

    def place(value: Any) -> Any:
        return places.get(level_text(value)) if partial.categorical else value

    dots = scatter(
        rounded(place(value) for value, _ in sampled),
        scaled(quantity, (value for _, value in sampled)),
        [f"{plain(level_text(at), LABEL)}: {quantity.amount(value)}" for at, value in sampled],
        mode="markers",
        marker={"color": GREY, "size": 6, "opacity": 0.45},
    )
    x = [place(value) for value in partial.grid]
    if partial.categorical:
        curve = _diamonds(partial, x, quantity)
        values = axis(
            plain(partial.parameter, LABEL),
            **ticks([plain(label, 60 // len(places)) for label in places]),
            range=[-0.5, len(places) - 0.5],
            showgrid=False,
        )
    else:
        curve = _band(partial, x, quantity)
        # 0.0001 is what a plan says; 100µ is not.
        scale = {"type": "log", "exponentformat": "none"} if partial.logarithmic else {}
        values = axis(plain(partial.parameter, LABEL), **scale)
    reach = clipped(quantity, [value for _, value in sampled], partial.low)
    return Figure(
        name,
        f"{quantity.heading} by {partial.parameter}",
        f"{quantity.heading} against {partial.parameter}: {len(partial.trials)} trials and "
        "their partial dependence with its 95 % band.",
        [dots, *curve],
        layout(xaxis=values, yaxis=axis(plain(quantity.axis), **within(reach))),
        height=300,
    )


def _hover(partial: Dependence, quantity: Quantity) -> list[str]:
    return [
        f"{plain(level_text(at) if partial.categorical else f'{at:.4g}', LABEL)}<br>"
        f"{quantity.amount(mean)} [{quantity.number(low)}, {quantity.number(high)}]"
        for at, mean, low, high in zip(
            partial.grid, partial.mean, partial.low, partial.high, strict=True
        )
    ]


def _diamonds(partial: Dependence, x: Sequence[Any], quantity: Quantity) -> list[dict[str, Any]]:
    """Draw the dependence on a category: a diamond with its interval for each level."""
    interval = bars(
        (high - mean for mean, high in zip(partial.mean, partial.high, strict=True)),
        (mean - low for mean, low in zip(partial.mean, partial.low, strict=True)),
        quantity,
        color=BLUE,
        thickness=2,
    )
    marker = {"color": BLUE, "symbol": "diamond", "size": 10}
    means = scaled(quantity, partial.mean)
    return [
        scatter(
            x, means, _hover(partial, quantity), mode="markers", marker=marker, error_y=interval
        )
    ]


def _band(partial: Dependence, x: Sequence[Any], quantity: Quantity) -> list[dict[str, Any]]:
    """Draw the dependence on a number: a line in its band."""
    line = {"color": BLUE, "width": 2}
    return [
        band(
            rounded(x),
            quantity.scale * np.array(partial.low),
            quantity.scale * np.array(partial.high),
            BLUE,
        ),
        scatter(
            rounded(x),
            scaled(quantity, partial.mean),
            _hover(partial, quantity),
            mode="lines",
            line=line,
        ),
    ]
