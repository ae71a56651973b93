"""Figures of effects: the forest plot, the trials of each level, how two factors interact."""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from analysis.figures.base import (
    BLUE,
    DASHES,
    FAINT,
    GREY,
    LABEL,
    LEVELS,
    MOST_DOTS,
    MOST_ROWS,
    SYMBOLS,
    VERMILION,
    Figure,
    Level,
    axis,
    bars,
    layout,
    percents,
    plain,
    points,
    sample,
    scatter,
    shades,
    ticks,
)
from analysis.statistics.candidates import mean_interval
from analysis.statistics.effects import Effect, summarize
from analysis.verdicts import FEWEST_PAIRS
from fmnist_common.text import level_text

MOST_LETTERS = 44  # of all labels under an axis; more stand beside it
MOST_LEVELS = 30  # of a factor, those that differ most
MOST_PAIRS = 60  # paired lines between levels


def forest(effects: Sequence[Effect], verdicts: Sequence[str]) -> Figure:
    """Draw each difference with its interval, a row per level under its factor's name.

    Args:
        effects: in the table's order.
        verdicts: a word for each, such as "better".
    """
    known = [
        (one, word) for one, word in zip(effects, verdicts, strict=True) if one.delta is not None
    ]
    left_out = len(known) - MOST_ROWS
    if left_out > 0:
        largest = sorted(known, key=lambda pair: -abs(pair[0].delta or 0.0))[:MOST_ROWS]
        chosen = {id(one) for one, _ in largest}
        known = [pair for pair in known if id(pair[0]) in chosen]
    rows_at: list[tuple[float, str]] = []
    rows: dict[str, list[tuple[float, Effect]]] = {}
    factor, y = None, 0.0
    for effect, word in known:
        if effect.factor != factor:
            factor = effect.factor
            y -= 0.3
            rows_at.append((y, f"<b>{plain(factor, LABEL)}</b>"))
            y -= 1
        rows_at.append((y, plain(level_text(effect.level), LABEL)))
        rows.setdefault(word, []).append((y, effect))
        y -= 1
    style = {
        "better": (BLUE, "circle"),
        "worse": (VERMILION, "diamond"),
        "not proven": (GREY, "circle-open"),
    }
    data = []
    for word in [*style, *(word for word in rows if word not in style)]:
        if word not in rows:
            continue
        shade, symbol = style.get(word, (GREY, "x-thin-open"))
        own = [effect for _, effect in rows[word]]
        deltas = [one.delta or 0.0 for one in own]
        bounds = list(map(_bounds, own))
        data.append(
            scatter(
                percents(deltas),
                [place for place, _ in rows[word]],
                [_effect_text(one, word) for one in own],
                name=word,
                mode="markers",
                marker={
                    "color": shade,
                    "symbol": symbol,
                    "size": 9,
                    "line": {"width": 2, "color": shade},
                },
                error_x=bars(
                    (high for _, high in bounds),
                    (low for low, _ in bounds),
                    color=shade,
                    thickness=2,
                    width=0,
                ),
            )
        )
    shapes: list[dict[str, Any]] = [
        {"type": "line", "x0": 0, "x1": 0, "yref": "paper", "y0": 0, "y1": 1,
         "line": {"color": GREY, "width": 1.5}, "layer": "below"}
    ]  # fmt: skip
    height = round(90 - 22 * y)
    proven = sum(len(rows.get(word, [])) for word in ("better", "worse"))
    note = (
        "Dot: the mean difference; line: its 95 % interval, before any correction. Filled: proven "
        "after Holm's correction; hollow: chance may explain it."
    )
    if left_out > 0:
        note += f" The {MOST_ROWS} largest differences; the table has all {len(known) + left_out}."
    return Figure(
        "forest",
        "Effect of each level",
        f"Forest plot of {len(known)} differences with 95 % intervals; {proven} are proven.",
        data,
        layout(
            xaxis=axis("difference in points"),
            yaxis=axis(
                **ticks([label for _, label in rows_at], [place for place, _ in rows_at]),
                range=[y + 0.3, 0.4],
                showgrid=False,
                fixedrange=True,
            ),
            shapes=shapes,
            showlegend=True,
        ),
        height,
        note,
    )


def _bounds(effect: Effect) -> tuple[float, float]:
    """Return how far the interval reaches below and above the difference.

    Not at all where there are too few pairs for a claim: two of them have an interval that is 13
    times as wide as their spread, and would hide all others.
    """
    if effect.delta is None or effect.compared < FEWEST_PAIRS:
        return 0.0, 0.0
    low = effect.delta if effect.delta_low is None else effect.delta_low
    high = effect.delta if effect.delta_high is None else effect.delta_high
    return effect.delta - low, high - effect.delta


def _effect_text(effect: Effect, word: str) -> str:
    lines = [
        f"<b>{plain(effect.factor, LABEL)} = {plain(level_text(effect.level), 2 * LABEL)}</b>",
        f"{points(effect.delta or 0.0)} points",
    ]
    if effect.delta_low is not None and effect.delta_high is not None:
        lines.append(f"95 % interval {points(effect.delta_low)} to {points(effect.delta_high)}")
    if effect.p_holm is not None:
        lines.append(f"p = {effect.p_holm:.3f} after Holm's correction")
    return "<br>".join([*lines, f"n = {effect.n}: {word}"])


def replicates(
    factor: str,
    levels: Sequence[Level],
    effects: Sequence[Effect | None],
    compared: str,
    name: str,
) -> Figure:
    """Draw every trial of a factor's levels, those of a pair joined by a line, and the means.

    Args:
        factor: its name.
        levels: in order.
        effects: of each level against its reference, whose interval is drawn about the level's
            mean; None: a reference.
        compared: which accuracy it is, such as "validation accuracy".
        name: of the figure.
    """
    shown = _largest(effects)
    left_out = len(levels) - len(shown)
    levels, effects = [levels[i] for i in shown], [effects[i] for i in shown]
    # Long labels stand beside the figure instead of below it.
    sideways = max(len(level.label) for level in levels) * len(levels) > MOST_LETTERS
    colours = shades(levels)
    data = [_pairs(levels, sideways)]
    for index, level in enumerate(levels):
        own = sample(
            [(key, t.value) for key, t in level.trials.items() if t.value is not None], MOST_DOTS
        )
        data.append(
            _upright(
                [index] * len(own),
                percents(value for _, value in own),
                [f"{plain(_pair_label(key), 60)}<br>{100 * value:.2f} %" for key, value in own],
                sideways,
                mode="markers",
                marker={"color": colours[index], "size": 7, "opacity": 0.75},
            )
        )
    means = [_mean(level) for level in levels]
    intervals = bars(
        (None if one is None else _bounds(one)[1] for one in effects),
        (None if one is None else _bounds(one)[0] for one in effects),
        color=GREY,
        thickness=2,
        width=4,
    )
    data.append(
        _upright(
            [index + 0.16 for index in range(len(levels))],
            percents(means),
            [
                f"<b>{plain(level.label, LABEL)}</b><br>mean of n = {len(level.trials)}"
                + ("" if mean is None else f": {100 * mean:.2f} %")
                for level, mean in zip(levels, means, strict=True)
            ],
            sideways,
            mode="markers",
            marker={"color": colours, "symbol": "diamond", "size": 10},
            **{"error_x" if sideways else "error_y": intervals},
        )
    )
    pairs = len({key for level in levels for key in level.trials})
    span = [-0.5, len(levels) - 0.5]
    names = axis(
        **ticks([plain(level.label, LABEL) for level in levels]),
        range=span[::-1] if sideways else span,
        showgrid=False,
        fixedrange=True,
    )
    accuracy = axis(f"{compared}, %")
    reference = next(
        (mean for level, mean in zip(levels, means, strict=True) if level.reference), None
    )
    return Figure(
        name,
        f"{factor}: every trial",
        f"The {compared} of each trial for {len(levels)} levels of {factor}, paired by line.",
        data,
        layout(
            xaxis=accuracy if sideways else names,
            yaxis=names if sideways else accuracy,
            shapes=[] if reference is None else [_across(100 * reference, sideways)],
        ),
        height=max(340, 70 + 36 * len(levels)) if sideways else 340,
        note=" ".join(
            [
                *([f"{MOST_PAIRS} of {pairs:,} pairs are joined."] if pairs > MOST_PAIRS else []),
                *(
                    [f"{left_out:,} levels with smaller differences are not drawn."]
                    if left_out > 0
                    else []
                ),
            ]
        ),
    )


def _largest(effects: Sequence[Effect | None]) -> list[int]:
    """Return the places of references and of the levels that differ most, in order."""

    def size(place: int) -> float:
        effect = effects[place]
        return math.inf if effect is None else abs(effect.delta or 0.0)

    return sorted(sorted(range(len(effects)), key=size, reverse=True)[:MOST_LEVELS])


def _upright(
    places: Sequence[Any], values: Sequence[Any], text: Sequence[str] | None, sideways: bool,
    **more: Any,
) -> dict[str, Any]:  # fmt: skip
    x, y = (values, places) if sideways else (places, values)
    return scatter(x, y, text, **more)


def _across(value: float, sideways: bool) -> dict[str, Any]:
    along, over = ("y", "x") if sideways else ("x", "y")
    return {
        "type": "line",
        f"{along}ref": "paper",
        f"{along}0": 0,
        f"{along}1": 1,
        f"{over}0": value,
        f"{over}1": value,
        "line": {"color": GREY, "width": 1, "dash": "dash"},
        "layer": "below",
    }


def _pairs(levels: Sequence[Level], sideways: bool) -> dict[str, Any]:
    places: list[float | None] = []
    values: list[float | None] = []
    keys = list(dict.fromkeys(key for level in levels for key in level.trials))
    for key in sample(keys, MOST_PAIRS):
        for index, level in enumerate(levels):
            if key in level.trials:
                places.append(index)
                values.append(level.trials[key].value)
        places.append(None)
        values.append(None)
    line = {"color": FAINT, "width": 1}
    return _upright(places, percents(values), None, sideways, mode="lines", line=line)


def _pair_label(key: Hashable) -> str:
    if isinstance(key, tuple) and len(key) == 2 and isinstance(key[0], tuple):
        others, seed = key
        return f"{', '.join(map(level_text, others))}, seed {seed}"
    return f"seed {key}"


def _mean(level: Level) -> float | None:
    return summarize([t.value for t in level.trials.values() if t.value is not None]).mean


def interaction(
    factor: str,
    other: str,
    cells: Mapping[tuple[Any, Any], Sequence[float]],
    compared: str,
    name: str,
) -> Figure:
    """Draw how a factor's effect depends on another: parallel lines would mean not at all.

    Args:
        factor: along the axis.
        other: a line for each of its levels.
        cells: accuracies of the trials with both levels, keyed (level of factor, of other).
        compared: which accuracy it is, such as "validation accuracy".
        name: of the figure.
    """
    along = list(dict.fromkeys(level for level, _ in cells))
    lines = list(dict.fromkeys(level for _, level in cells))
    data = []
    for index, level in enumerate(lines):
        own = [cells.get((first, level), ()) for first in along]
        means = [summarize(values).mean for values in own]
        spans = [mean_interval(values) for values in own]
        shift = 0.06 * (index - (len(lines) - 1) / 2)
        label = plain(f"{other} = {level_text(level)}", LABEL)
        data.append(
            scatter(
                [place + shift for place in range(len(along))],
                percents(means),
                [
                    f"{label}<br>n = {len(values)}"
                    + ("" if mean is None else f", mean {100 * mean:.2f} %")
                    for values, mean in zip(own, means, strict=True)
                ],
                mode="lines+markers",
                name=label,
                line={"color": LEVELS[index % len(LEVELS)], "width": 2,
                      "dash": DASHES[index % len(DASHES)]},
                marker={"size": 8, "symbol": SYMBOLS[index % len(SYMBOLS)]},
                error_y=bars(
                    (
                        0 if high is None or mean is None else high - mean
                        for mean, (_, high) in zip(means, spans, strict=True)
                    ),
                    (
                        0 if low is None or mean is None else mean - low
                        for mean, (low, _) in zip(means, spans, strict=True)
                    ),
                    thickness=1.5,
                    width=4,
                ),
            )
        )  # fmt: skip
    return Figure(
        name,
        f"{factor} × {other}",
        f"Mean {compared} by {factor}, a line for each level of {other}.",
        data,
        layout(
            xaxis=axis(
                plain(factor, LABEL),
                **ticks([plain(level_text(level), 60 // len(along)) for level in along]),
                range=[-0.4, len(along) - 0.6],
                showgrid=False,
            ),
            yaxis=axis(f"{compared}, %"),
            showlegend=True,
        ),
        note="Means over the other factors and seeds with 95 % intervals. Parallel lines: no "
        "interaction.",
    )
