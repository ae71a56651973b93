"""The forest plot: each difference with its interval, a row per level under its factor's name."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from analysis.figures.base import (
    BLUE,
    FAR,
    GREEN,
    GREY,
    LABEL,
    MOST_ROWS,
    VERMILION,
    Figure,
    axis,
    bars,
    layout,
    plain,
    scaled,
    scatter,
    ticks,
)
from analysis.quantity import ACCURACY, Quantity
from analysis.statistics.effects import FEWEST_PAIRS, Effect
from analysis.text import p_text
from analysis.verdicts import PROVEN
from fmnist_common.text import level_text

# Colour and symbol of a verdict; any other word is a grey cross.
STYLES = {
    "better": (BLUE, "circle"),
    "worse": (VERMILION, "diamond"),
    "not proven": (GREY, "circle-open"),
    "proven negligible": (GREEN, "square"),
}
OTHER = (GREY, "x-thin-open")
TOGETHER = "of all together, so that it excludes 0 exactly where the difference is proven"
BELOW_NAME, BELOW_FACTOR = 1.0, 0.3  # room between rows, and above a factor's name, in rows


@dataclass(frozen=True)
class Drawn:
    """A difference, its verdict, and where its row is."""

    effect: Effect
    word: str
    place: float


def forest(
    effects: Sequence[Effect],
    verdicts: Sequence[str],
    quantity: Quantity = ACCURACY,
    *,
    strict: bool = False,
) -> Figure:
    """Draw each difference with its interval, a row per level under its factor's name.

    Args:
        effects: in the table's order.
        verdicts: a word for each, such as "better".
        quantity: what the differences are of.
        strict: whether each interval is by itself, and not of all together.
    """
    compared = [
        (effect, word)
        for effect, word in zip(effects, verdicts, strict=True)
        if effect.delta is not None
    ]
    shown = _largest(compared)
    rows, names, height = _rows(shown)
    limit = _limit([row.effect for row in rows])
    words = [*STYLES, *dict.fromkeys(row.word for row in rows if row.word not in STYLES)]
    traces = [
        _trace(quantity, [row for row in rows if row.word == word], word, limit) for word in words
    ]
    proven = sum(row.word in PROVEN for row in rows)
    note = f"Dot: the difference; line: its 95 % interval, {'by itself' if strict else TOGETHER}. "
    note += "Filled: proven, after correction; hollow: chance may explain it."
    if not math.isinf(limit):
        note += " An arrow: beyond this figure, by what it says."
    if len(compared) > len(shown):
        note += f" The {MOST_ROWS} largest differences; the table has all {len(compared)}."
    return Figure(
        "forest",
        "Effect of each level",
        f"Forest plot of {len(shown)} differences with 95 % intervals; {proven} are proven.",
        [trace for trace in traces if trace is not None],
        layout(
            xaxis=axis(
                _title(quantity),
                **(
                    {}
                    if math.isinf(limit)
                    else {"range": scaled(quantity, _span([row.effect for row in rows], limit))}
                ),
            ),
            yaxis=axis(
                **ticks([label for label, _ in names], [place for _, place in names]),
                range=[0.3 - height, 0.4],
                showgrid=False,
                fixedrange=True,
            ),
            shapes=[_zero()],
            showlegend=True,
        ),
        round(90 + 22 * height),
        note,
    )


def _largest(compared: Sequence[tuple[Effect, str]]) -> list[tuple[Effect, str]]:
    if len(compared) <= MOST_ROWS:
        return list(compared)
    order = sorted(range(len(compared)), key=lambda at: -abs(compared[at][0].delta or 0.0))
    return [compared[at] for at in sorted(order[:MOST_ROWS])]


def _rows(
    compared: Sequence[tuple[Effect, str]],
) -> tuple[list[Drawn], list[tuple[str, float]], float]:
    """Place the rows; return them, the labels of the axis with their places, and the height."""
    rows, names = [], []
    factor, y = None, 0.0
    for effect, word in compared:
        if effect.factor != factor:
            factor = effect.factor
            y -= BELOW_FACTOR
            names.append((f"<b>{plain(factor, LABEL)}</b>", y))
            y -= BELOW_NAME
        names.append((plain(level_text(effect.level), LABEL), y))
        rows.append(Drawn(effect, word, y))
        y -= BELOW_NAME
    return rows, names, -y


def _limit(effects: Sequence[Effect]) -> float:
    """Return how far the figure reaches to both sides; infinite where nothing stretches it.

    A level that loses 48 points would squeeze the intervals of all others to dots.
    """
    ends = sorted(abs(effect.delta or 0.0) + max(interval_reach(effect)) for effect in effects)
    usual = FAR * ends[len(ends) // 2] if ends else 0.0
    inside = [end for end in ends if end <= usual]
    return max(inside) if inside and len(inside) < len(ends) else math.inf


def _span(effects: Sequence[Effect], limit: float) -> tuple[float, float]:
    """Return from where to where the figure goes that has this limit: no wider than is drawn."""
    ends = [0.0]
    for effect in effects:
        delta, (below, above) = effect.delta or 0.0, interval_reach(effect)
        far = abs(delta) > limit
        ends += [math.copysign(limit, delta)] if far else [delta - below, delta + above]
    room = 0.06 * (max(ends) - min(ends))
    return min(ends) - room, max(ends) + room


def _trace(
    quantity: Quantity, rows: Sequence[Drawn], word: str, limit: float
) -> dict[str, Any] | None:
    """Draw the differences of one verdict; those beyond the limit as an arrow at the edge."""
    if not rows:
        return None
    shade, symbol = STYLES.get(word, OTHER)
    beyond = [abs(row.effect.delta or 0.0) > limit for row in rows]
    reach = [
        (0.0, 0.0) if far else interval_reach(row.effect)
        for row, far in zip(rows, beyond, strict=True)
    ]
    signs = [math.copysign(1, row.effect.delta or 0.0) for row in rows]
    labels = [
        quantity.signed(row.effect.delta or 0.0).replace("-", "−") if far else ""
        for row, far in zip(rows, beyond, strict=True)
    ]
    return scatter(
        scaled(
            quantity,
            (
                sign * limit if far else row.effect.delta
                for row, sign, far in zip(rows, signs, beyond, strict=True)
            ),
        ),
        [row.place for row in rows],
        [_hover(quantity, row.effect, word) for row in rows],
        name=word,
        mode="markers+text" if any(beyond) else "markers",
        **(
            {
                "texttemplate": labels,
                "textposition": ["middle right" if sign < 0 else "middle left" for sign in signs],
            }
            if any(beyond)
            else {}
        ),
        marker={
            "color": shade,
            "symbol": [
                ("triangle-left" if sign < 0 else "triangle-right") if far else symbol
                for sign, far in zip(signs, beyond, strict=True)
            ]
            if any(beyond)
            else symbol,
            "size": 9,
            "line": {"width": 2, "color": shade},
        },
        error_x=bars(
            (above for _, above in reach),
            (below for below, _ in reach),
            quantity,
            color=shade,
            thickness=2,
            width=0,
        ),
    )


def _zero() -> dict[str, Any]:
    line = {"color": GREY, "width": 1.5}
    return {"type": "line", "x0": 0, "x1": 0, "yref": "paper", "y0": 0, "y1": 1, "line": line,
            "layer": "below"}  # fmt: skip


def interval_reach(effect: Effect) -> tuple[float, float]:
    """Return how far the interval reaches below and above the difference.

    Not at all where there are too few pairs for a claim: two of them have an interval that is 13
    times as wide as their spread, and would hide all others.
    """
    if effect.delta is None or effect.compared < FEWEST_PAIRS:
        return 0.0, 0.0
    low = effect.delta if effect.delta_low is None else effect.delta_low
    high = effect.delta if effect.delta_high is None else effect.delta_high
    return effect.delta - low, high - effect.delta


def _title(quantity: Quantity) -> str:
    unit = "points" if quantity.unit == "%" else plain(quantity.axis)
    return f"difference in {unit}{' (less is better)' if quantity.lower_is_better else ''}"


def _hover(quantity: Quantity, effect: Effect, word: str) -> str:
    lines = [
        f"<b>{plain(effect.factor, LABEL)} = {plain(level_text(effect.level), 2 * LABEL)}</b>",
        quantity.gap(effect.delta, sign=True),
    ]
    if effect.delta_low is not None and effect.delta_high is not None:
        ends = " to ".join(map(quantity.signed, (effect.delta_low, effect.delta_high)))
        lines.append(f"95 % interval {ends}".replace("-", "−"))
    if effect.p_adjusted is not None:
        lines.append(f"p = {p_text(effect.p_adjusted)}, corrected")
    return "<br>".join([*lines, f"n = {effect.n}: {word}"])
