"""Every trial of a factor's levels, those of a pair joined by a line, and the means."""

import math
from collections.abc import Hashable, Sequence
from typing import Any

from analysis.figures.base import (
    FAINT,
    GREY,
    LABEL,
    MOST_DOTS,
    Figure,
    Level,
    axis,
    bars,
    layout,
    plain,
    sample,
    scaled,
    scatter,
    shades,
    ticks,
)
from analysis.figures.forest import interval_reach
from analysis.quantity import Quantity
from analysis.statistics.effects import Effect, summarize
from fmnist_common.text import level_text

MOST_LETTERS = 44  # of all labels under an axis; more stand beside it
MOST_LEVELS = 30  # of a factor, those that differ most
MOST_PAIRS = 60  # paired lines between levels
BESIDE = 0.16  # of the room between levels: how far a mean stands beside its trials


def replicates(
    factor: str,
    levels: Sequence[Level],
    effects: Sequence[Effect | None],
    quantity: Quantity,
    name: str,
) -> Figure:
    """Draw every trial of a factor's levels, those of a pair joined by a line, and the means.

    Args:
        factor: its name.
        levels: in order.
        effects: of each level against its reference, whose interval is drawn about the level's
            mean; None: a reference.
        quantity: what the values are.
        name: of the figure.
    """
    kept = _largest(effects)
    left_out = len(levels) - len(kept)
    levels, effects = [levels[i] for i in kept], [effects[i] for i in kept]
    # Long labels stand beside the figure instead of below it.
    sideways = max(len(level.label) for level in levels) * len(levels) > MOST_LETTERS
    colours = shades(levels)
    means = [_mean(level) for level in levels]
    dots = [
        _dots(quantity, level, index, colours[index], sideways=sideways)
        for index, level in enumerate(levels)
    ]
    traces = [
        _pairs(quantity, levels, sideways=sideways),
        *dots,
        _means(quantity, levels, means, effects, colours, sideways=sideways),
    ]
    return Figure(
        name,
        f"{factor}: every trial",
        f"The {quantity.name} of each trial for {len(levels)} levels of {factor}, paired by line.",
        traces,
        _layout(levels, means, quantity, sideways=sideways),
        height=max(340, 70 + 36 * len(levels)) if sideways else 340,
        note=_note(levels, left_out),
    )


def _largest(effects: Sequence[Effect | None]) -> list[int]:
    """Return the places of references and of the levels that differ most, in order."""

    def size(place: int) -> float:
        effect = effects[place]
        return math.inf if effect is None else abs(effect.delta or 0.0)

    return sorted(sorted(range(len(effects)), key=size, reverse=True)[:MOST_LEVELS])


def _dots(
    quantity: Quantity, level: Level, index: int, colour: str, *, sideways: bool
) -> dict[str, Any]:
    trials = [(key, t.value) for key, t in level.trials.items() if t.value is not None]
    shown = sample(trials, MOST_DOTS)
    return _upright(
        [index] * len(shown),
        scaled(quantity, (value for _, value in shown)),
        [f"{plain(_pair_label(key), 60)}<br>{quantity.amount(value)}" for key, value in shown],
        sideways=sideways,
        mode="markers",
        marker={"color": colour, "size": 7, "opacity": 0.75},
    )


def _means(
    quantity: Quantity,
    levels: Sequence[Level],
    means: Sequence[float | None],
    effects: Sequence[Effect | None],
    colours: Sequence[str],
    *,
    sideways: bool,
) -> dict[str, Any]:
    reach = [None if effect is None else interval_reach(effect) for effect in effects]
    intervals = bars(
        (None if ends is None else ends[1] for ends in reach),
        (None if ends is None else ends[0] for ends in reach),
        quantity,
        color=GREY,
        thickness=2,
        width=4,
    )
    return _upright(
        [index + BESIDE for index in range(len(levels))],
        scaled(quantity, means),
        [
            f"<b>{plain(level.label, LABEL)}</b><br>mean of n = {len(level.trials)}"
            + ("" if mean is None else f": {quantity.amount(mean)}")
            for level, mean in zip(levels, means, strict=True)
        ],
        sideways=sideways,
        mode="markers",
        marker={"color": list(colours), "symbol": "diamond", "size": 10},
        **{"error_x" if sideways else "error_y": intervals},
    )


def _layout(
    levels: Sequence[Level], means: Sequence[float | None], quantity: Quantity, *, sideways: bool
) -> dict[str, Any]:
    span = [-0.5, len(levels) - 0.5]
    names = axis(
        **ticks([plain(level.label, LABEL) for level in levels]),
        range=span[::-1] if sideways else span,
        showgrid=False,
        fixedrange=True,
    )
    accuracy = axis(plain(quantity.axis))
    of_references = [m for level, m in zip(levels, means, strict=True) if level.reference]
    reference = next(iter(of_references), None)
    return layout(
        xaxis=accuracy if sideways else names,
        yaxis=names if sideways else accuracy,
        shapes=[]
        if reference is None
        else [_across(quantity.scale * reference, sideways=sideways)],
    )


def _note(levels: Sequence[Level], left_out: int) -> str:
    pairs = len({key for level in levels for key in level.trials})
    notes = []
    if pairs > MOST_PAIRS:
        notes.append(f"{MOST_PAIRS} of {pairs:,} pairs are joined.")
    if left_out > 0:
        notes.append(f"{left_out:,} levels with smaller differences are not drawn.")
    return " ".join(notes)


def _upright(
    places: Sequence[Any], values: Sequence[Any], text: Sequence[str] | None, *, sideways: bool,
    **more: Any,
) -> dict[str, Any]:  # fmt: skip
    x, y = (values, places) if sideways else (places, values)
    return scatter(x, y, text, **more)


def _across(value: float, *, sideways: bool) -> dict[str, Any]:
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


def _pairs(quantity: Quantity, levels: Sequence[Level], *, sideways: bool) -> dict[str, Any]:
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
    shown = scaled(quantity, values)
    return _upright(places, shown, None, sideways=sideways, mode="lines", line=line)


def _pair_label(key: Hashable) -> str:
    if isinstance(key, tuple) and len(key) == 2 and isinstance(key[0], tuple):
        others, seed = key
        return f"{', '.join(map(level_text, others))}, seed {seed}"
    return f"seed {key}"


def _mean(level: Level) -> float | None:
    return summarize([t.value for t in level.trials.values() if t.value is not None]).mean
