"""The HiPlot page: every trial a line through its factors and results, in one offline file.

HiPlot's own Optuna import drops pruned and failed trials and all attributes; this page shows them.
"""

import html
import json
import math
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import hiplot

from analysis.progress import ranking
from analysis.quantity import ACCURACY
from analysis.scales import FEW, is_logarithmic
from analysis.statistics.candidates import on_front, ranked
from analysis.text import printable
from analysis.trials import Study, Trial
from fmnist_common.text import level_text

FIRST = ("variant",)
LAST = (
    "candidate",
    "seed",
    "state",
    "pareto",
    "epochs_trained",
    "seconds",
    "parameters",
    "best_epoch",
    "val_loss",
    "test_accuracy",
    "val_accuracy",
)
FLIP = "test_time_flip"  # where any evaluation is of image and mirror image
# What HiPlot itself calls a line, and where it came from.
HIDDEN = ["uid", "from_uid"]
WINDOW = 1380  # pixels of a usual window, within which the target must be
LABELS, BETWEEN, MARGIN = 350, (76, 80), 50  # of them: the first axis's labels, two axes, the right
# What stays in the table only where the plot has no room for all, least wanted first. Variants are
# their factors once more.
LESS = ("val_loss", "best_epoch", "epochs_trained", "candidate", "seconds", "seed", "variant")
CATEGORIES = {"variant", "seed", "state", "pareto"}
# The page may load nothing, not even from the folder it lies in.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:"
)

# Room, in pixels, for the labels of the leftmost axis, the slanted titles, and between the axes.
STYLE = """
body {{ min-width: {width}px }}
div:has(> div > .pplot-root) {{ margin: 0 {right}px 0 {left}px }}
div:has(> .pplot-root), .pplot-root svg {{ overflow: visible !important }}
"""


def write(study: Study, trials: Sequence[Trial], path: Path) -> Path:
    """Write the page of a study with at least one trial, and return its path.

    Raises:
        ValueError: the study has no trials.
    """
    if not trials:
        raise ValueError(f"study {study.name!r} has no trials")
    made = experiment(study, trials)
    axes = _axes(made)
    left = _left(made, axes)
    between = min(BETWEEN[1], (WINDOW - left - MARGIN) // max(1, len(axes) - 1))
    width = left + MARGIN + max(BETWEEN[0], between) * (len(axes) - 1)
    style = STYLE.format(left=left, right=MARGIN, width=width)
    head = (
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"/>'
        f"<title>{html.escape(printable(study.name))}</title><style>{style}</style>"
    )
    page = _drawn(made).replace("<title>HiPlot</title>", head, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return path


def _drawn(made: "hiplot.Experiment") -> str:
    """Return HiPlot's page of an experiment, mended."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # HiPlot leaves its icon's file open
        page = str(made.to_html())
    # HiPlot's style sheet asks Google for a font that has a local substitute.
    page = re.sub(r'@import\\?"https?:[^"]*"', "", page)
    # What a conditional parameter has in trials that it has no place in; see `_line`.
    page = page.replace('"nan/inf/null"', '"none"')
    # d3 would write the ticks of a logarithmic axis as 6e+1; "~r" writes 60.
    return page.replace(".state.height/50)", '.state.height/50,"~r")')


def experiment(study: Study, trials: Sequence[Trial]) -> hiplot.Experiment:
    """Make the lines: a column per factor in plan order, between the variant and the results.

    A line ends where its trial ended: one that failed has its factors and state, no accuracy; one
    that was pruned has the accuracy of its last epoch. With several objectives, finished trials
    say whether their candidate is on the Pareto front.
    """
    factors = _factors(study, trials)
    objectives = study.plan.get("search", {}).get("objectives", [])
    extra = [_harmless(name) for name in objectives if name not in LAST]
    if FLIP not in factors and any(trial.test_time_flip for trial in trials):
        extra.append(FLIP)
    compared = _compared_column(study)
    columns = [*FIRST, *map(_factor_column, factors), *LAST[:-1], *extra, compared]
    pareto = _pareto(study, trials)
    absent = _absent(trials, factors)
    lines = [
        _line(trial, absent) | pareto.get(trial.number, {}) | _further(trial, objectives)
        for trial in trials
    ]
    lines = [
        {compared if name == LAST[-1] else name: v for name, v in line.items()} for line in lines
    ]
    made = hiplot.Experiment.from_iterable(lines)
    ranges = _ranges(trials)
    for name in columns:
        values = {line[name] for line in lines if name in line} - {math.nan}
        if values:
            made.parameters_definition[name].type = ranges.get(name) or _type(
                LAST[-1] if name == compared else name, values
            )
    made.colorby = compared if compared in made.parameters_definition else "state"
    made.colormap = "interpolateViridis"
    shown = _shown(made, columns, compared)
    left_out = [name for name in columns if name not in shown]
    made.display_data(hiplot.Displays.PARALLEL_PLOT).update(
        # HiPlot lists its axes from right to left.
        {"order": shown[::-1], "hide": [*HIDDEN, *left_out]}
    )
    made.display_data(hiplot.Displays.TABLE).update({"order": columns, "hide": HIDDEN})
    against = next((name for name in objectives if name != "val_accuracy"), "seconds")
    if {against, compared} <= made.parameters_definition.keys():
        made.display_data(hiplot.Displays.XY).update(
            {"axis_x": against, "axis_y": compared, "dots_thickness": 3}
        )
    return made


def _shown(made: hiplot.Experiment, columns: Sequence[str], compared: str) -> list[str]:
    """Choose the axes: what varies, as far as there is room for it; the target in any case."""
    seen: dict[str, set[str]] = {name: set() for name in columns}
    for line in made.datapoints:
        for name in seen.keys() & line.values.keys():
            seen[name].add(str(line.values[name]))
    axes = [name for name in columns if len(seen[name]) > 1 or name == compared]
    for name in LESS:
        if _width(made, axes) <= WINDOW:
            break
        axes = [axis for axis in axes if axis != name]
    if _width(made, axes) > WINDOW and compared in axes:  # more factors than a window has room for
        axes = [compared, *(axis for axis in axes if axis != compared)]
    return axes


def _width(made: hiplot.Experiment, axes: Sequence[str]) -> int:
    return _left(made, axes) + MARGIN + BETWEEN[0] * (len(axes) - 1)


def _left(made: hiplot.Experiment, axes: Sequence[str]) -> int:
    """Return the room that the labels of the first axis take."""
    values = (str(line.values.get(axes[0], "")) for line in made.datapoints) if axes else ()
    return min(LABELS, 7 * max(map(len, values), default=0) + 15)


def _axes(made: hiplot.Experiment) -> list[str]:
    """Return the axes of an experiment, from left to right."""
    shown: list[str] = made.display_data(hiplot.Displays.PARALLEL_PLOT)["order"]
    return shown[::-1]


def _compared_column(study: Study) -> str:
    """Name the column of the compared figure: an imported one may be of other images."""
    if study.quantity == ACCURACY:
        return LAST[-1]
    if study.quantity.is_accuracy:
        return "accuracy"
    unit = f" ({study.quantity.unit})" if study.quantity.unit else ""
    return _harmless(f"{study.compared}{unit}")


def _factors(study: Study, trials: Iterable[Trial]) -> list[str]:
    planned = [*study.plan.get("factors", {}), *study.plan.get("search", {}).get("space", {})]
    return list(dict.fromkeys([*planned, *(name for trial in trials for name in trial.params)]))


def _ranges(trials: Iterable[Trial]) -> dict[str, hiplot.ValueType]:
    """Return the axes of the parameters that a search drew from a range, by column."""
    drawn = {name: text for trial in trials for name, text in trial.distributions.items()}
    axes = {}
    for name, text in drawn.items():
        distribution = json.loads(text)
        if distribution["name"] != "CategoricalDistribution":
            log = distribution["attributes"].get("log")
            numeric, by_magnitude = hiplot.ValueType.NUMERIC, hiplot.ValueType.NUMERIC_LOG
            axes[_factor_column(name)] = by_magnitude if log else numeric
    return axes


def _pareto(study: Study, trials: Sequence[Trial]) -> dict[int, dict[str, str]]:
    """Say of each finished trial of a search with several objectives if it is on the front."""
    if len(study.directions) < 2 or study.plan.get("design") != "search":
        return {}
    chosen = {
        candidate.variant
        for candidate in on_front(ranked(trials, **ranking(study)), study.directions)
    }
    return {
        trial.number: {"pareto": "yes" if trial.label in chosen else "no"}
        for trial in trials
        if trial.state == "COMPLETE"
    }


def _further(trial: Trial, objectives: Iterable[str]) -> dict[str, float]:
    """Return the values of objectives that have no column of their own."""
    values = zip(objectives, trial.values, strict=False)
    return {
        _harmless(name): value
        for name, value in values
        if name not in LAST and math.isfinite(value)
    }


def _accuracy(trial: Trial) -> float | None:
    if trial.state == "PRUNED" and trial.value is None:
        return trial.intermediate.get(trial.epochs)
    return trial.value


def _absent(trials: Sequence[Trial], factors: Iterable[str]) -> dict[str, Any]:
    """Return what stands for "none" on each factor's axis.

    A trial without a conditional parameter would have a line that is cut there. Among categories
    it has one of its own; on an axis of numbers HiPlot keeps a place apart for NaN.
    """
    ranges = _ranges(trials)
    absent = {}
    for name in factors:
        column = _factor_column(name)
        values = {_cell(trial.params[name]) for trial in trials if name in trial.params}
        kind = ranges.get(column) or _type(column, values)
        absent[name] = level_text(None) if kind is hiplot.ValueType.CATEGORICAL else math.nan
    return absent


def _line(trial: Trial, absent: Mapping[str, Any]) -> dict[str, Any]:
    """Make a trial's line; `absent` is what stands for a factor that it does not have."""
    # A trial without any parameter has not begun, and has no place on any axis.
    cells: dict[str, Any] = {"variant": _cell(trial.label)}
    for name, none in absent.items() if trial.params else ():
        value = trial.params.get(name)
        cells[_factor_column(name)] = none if value is None else _cell(value)
    results = {
        **({FLIP: True} if trial.test_time_flip else {}),
        "candidate": trial.candidate,
        "seed": trial.seed,
        "state": trial.state.lower(),
        "epochs_trained": trial.epochs,
        "seconds": trial.seconds,
        "parameters": trial.parameters,
        "best_epoch": trial.best_epoch,
        "val_loss": trial.val_loss,
        "test_accuracy": trial.test_accuracy,
        "val_accuracy": _accuracy(trial),
    }
    cells |= {name: _cell(value) for name, value in results.items()}
    return {name: value for name, value in cells.items() if value is not None}


def _factor_column(factor: str) -> str:
    taken = factor in (*FIRST, *LAST, *HIDDEN)
    return _harmless(f"{factor} (factor)" if taken else factor)


def _cell(value: Any) -> Any:
    if isinstance(value, str | bool):
        return _harmless(level_text(value))
    if isinstance(value, float):  # a table full of 0.09999999999999998 is hard to read
        return float(f"{value:.10g}") if math.isfinite(value) else None
    return value


def _harmless(text: str) -> str:
    """Change what HTML would read as a tag or an entity: `<` to a look-alike, `&lt;` to `& lt;`.

    HiPlot's table puts values into the page as HTML, its axes as text: an escaped value would be
    right in the one and wrong in the other.
    """
    text = printable(text).replace("<", "‹").replace(">", "›")
    return re.sub(r"&(?=[#\w])", "& ", text)


def _type(name: str, values: AbstractSet[Any]) -> hiplot.ValueType:
    """Choose the axis of a column: categories, or numbers on a linear or logarithmic scale.

    Logarithmic are positive factors known for it (learning rate, weight decay), and those whose
    neighbouring levels (three or more) lie more evenly by ratio than by difference: 32, 64, 128.
    The few levels of any other factor are categories: ticks where they are, instead of 3.2 for a
    kernel size. Results are numbers.
    """
    if name in CATEGORIES or any(isinstance(value, str) for value in values):
        return hiplot.ValueType.CATEGORICAL
    if name in LAST:
        return hiplot.ValueType.NUMERIC
    levels = sorted(values)
    if is_logarithmic(name, levels):
        return hiplot.ValueType.NUMERIC_LOG
    return hiplot.ValueType.CATEGORICAL if len(levels) <= FEW else hiplot.ValueType.NUMERIC
