"""What a column is, by its name and its cells; cells as levels and as figures.

Figures keep their value: a percentage is divided by 100 in decimal arithmetic, and what is neither
a number nor a word for a missing one is an error.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from fmnist_common.text import level_text
from study.importing.sheet import Cell, Row
from study.plans.names import squeeze
from study.plans.plan import Level
from trainer.errors import UserError

_SPLITS = {
    "val": ("val", "valid", "validation", "dev", "eval"),
    "test": ("test", "testing"),
    "train": ("train", "training"),
}
_MEASURES = {
    "accuracy": ("accuracy", "acc", "top1", "top1accuracy", "top1acc"),
    "loss": ("loss", "nll", "crossentropy"),
    "error": ("error", "err", "errorrate", "top1error"),
}
_NUMBERS = {
    "parameters": "parameters params nparams numparams nparameters numparameters "
    "parametercount paramcount trainableparams trainableparameters",
    "seconds": "seconds secs sec time timesec timesecs times timeseconds duration durations "
    "runtime runtimes walltime elapsed traintime trainingtime trainseconds trainingseconds",
    "latency_ms": "latency latencyms inferencetime inferencems inferencetimems msperimage",
    "images_per_second": "imagespersecond imagess samplespersecond throughput",
    "best_epoch": "bestepoch",
    "epochs": "epochs epochstrained nepochs numepochs",
    "epoch": "epoch",
    "seed": "seed randomseed replicate replication rep repeat fold",
    "run": "run runid trial trialid trialnumber job jobid",
}
_WORDS = {
    "state": "state status",
    # Who a row is, when, and what was said of it; HiPlot's and our own pages' beside them.
    "identity": "uid fromuid id index name runname experiment experimentid expid timestamp date "
    "datetime starttime endtime variant candidate pareto",
    "remark": "note notes comment comments remark remarks description path file checkpoint command",
    "other": "f1 f1score recall auc flops gflops macs gmacs multadds memory memorymb sizemb "
    "modelsize modelsizemb modelbytes",
}
_UNITS = {  # names whose unit is another than that of the figure
    "latencys": ("latency_ms", "1000"),
    "latencyseconds": ("latency_ms", "1000"),
    "minutes": ("seconds", "60"),
    "timemin": ("seconds", "60"),
    "timeminutes": ("seconds", "60"),
    "hours": ("seconds", "3600"),
    "timehours": ("seconds", "3600"),
    "timems": ("seconds", "0.001"),
    "durationms": ("seconds", "0.001"),
}

ROLES: Mapping[str, str] = {
    **{
        name: f"{split}_{measure}" if split else measure
        for measure, words in _MEASURES.items()
        for word in words
        for split, prefixes in {"": ("",), **_SPLITS}.items()
        for prefix in prefixes
        for name in (prefix + word, word + prefix)
    },
    **{name: role for role, names in (_NUMBERS | _WORDS).items() for name in names.split()},
    **{name: role for name, (role, _) in _UNITS.items()},
}
STATES: Mapping[str, str] = {
    **dict.fromkeys(("complete", "completed", "finished", "done", "ok", "success"), "COMPLETE"),
    **dict.fromkeys(("pruned", "stopped"), "PRUNED"),
    **dict.fromkeys(("fail", "failed", "failure", "crashed", "error", "diverged"), "FAIL"),
    **dict.fromkeys(("running", "waiting"), "FAIL"),
}
MISSING = frozenset({"", "nan", "na", "n/a", "null", "none", "-", "–", "—", "inf", "-inf"})
# Numbers that are chosen, even where hardly any of them is there twice.
_SETTINGS = (
    "lr learningrate maxlr weightdecay wd l2 momentum dropout dropoutrate droprate labelsmoothing "
    "gamma beta1 beta2 eps epsilon temperature warmup"
)
SETTINGS = frozenset(_SETTINGS.split())
MAX_WHOLE = 2**53  # a number column of the database holds no larger one exactly

_PERCENT = re.compile(r"(percentage|percent|pct)$|%")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
# Of a level: one that begins with a needless 0 is a name, such as 007.
_LEVEL = re.compile(r"[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_INTEGER = re.compile(r"[+-]?(0|[1-9]\d*)", re.ASCII)
_THOUSANDS = re.compile(r"\d{1,3}(,\d{3})+", re.ASCII)
_TRUTH = ({"true": True, "false": False}, {"yes": True, "no": False})


@dataclass(frozen=True)
class Name:
    """What a column's name says."""

    role: str | None  # None: nothing known, so a factor if it varies
    best: bool  # of a run's best epoch, or its last: `best_val_acc`
    percent: bool
    unit: Decimal  # what a value is multiplied by


def understand(column: str) -> Name:
    """Read a column's name; case, spaces and punctuation do not matter."""
    lower = column.lower().removesuffix("(factor)" if column.endswith(" (factor)") else "\0")
    if lower != column.lower():  # of our own HiPlot page: a factor that is called like a figure
        return Name(None, False, False, Decimal(1))
    percent = bool(_PERCENT.search(lower.rstrip(" )]")))
    squeezed = squeeze(lower)
    squeezed = re.sub(r"(percentage|percent|pct)$", "", squeezed)
    rest = re.sub(r"^(best|final)(?!epoch)|best$", "", squeezed)
    role = ROLES.get(rest)
    return Name(
        role,
        best=rest != squeezed,
        percent=percent,
        unit=Decimal(_UNITS[rest][1]) if rest in _UNITS else Decimal(1),
    )


def levels_of(cells: Sequence[Cell]) -> list[Level]:
    """Read a factor's cells: all true/false (yes/no), all numbers, or else all text.

    An empty cell, and a NaN, is no level (None). A text is changed only if every text of the
    column is of the one kind, so that `none` beside `0.1` stays a word among words.
    """
    plain = [None if isinstance(cell, float) and math.isnan(cell) else cell for cell in cells]
    texts = [cell for cell in plain if isinstance(cell, str)]
    made: list[Level] = list(plain)
    for words in _TRUTH:
        if texts and all(text.lower() in words for text in texts):
            made = [words[own.lower()] if isinstance(own, str) else own for own in plain]
    if texts and all(_LEVEL.fullmatch(text) for text in texts):
        whole = all(_INTEGER.fullmatch(text) and len(text) < 17 for text in texts)
        made = [(int if whole else float)(own) if isinstance(own, str) else own for own in plain]
    known = [own for own in made if own is not None]
    kinds = {"bool" if isinstance(own, bool) else type(own).__name__ for own in known}
    exact = all(abs(own) <= MAX_WHOLE for own in known if isinstance(own, int | float))
    if kinds <= {"int", "float"} and exact:  # an infinity is not exact
        return [None if own is None else float(own) for own in made] if "float" in kinds else made
    if len(kinds) == 1 and not kinds & {"int", "float"}:
        return made
    return [None if own is None else level_text(own) for own in plain]


@dataclass(frozen=True)
class Fractions:
    """A column of accuracies as fractions, and how they were made."""

    values: list[float | None]
    percent: bool


def fractions(name: str, rows: Iterable[Row], *, percent: bool, error: bool) -> Fractions:
    """Read accuracies, or error rates as accuracies; a column is either fractions or percentages.

    Raises:
        UserError: a cell is no number, out of range, or the column mixes both; names the line.
    """
    found = [(row.where, _number(name, row)) for row in rows]
    known = [(where, own) for where, own in found if own is not None]
    signed = [own for own in known if own[1][1]]
    if signed and len(signed) < len(known):
        where = next(where for where, own in known if not own[1])
        raise UserError(f"{where}: {name}: some cells have a % sign and this one has none")
    large = [own for own in known if own[1][0] > 1]
    percent = percent or bool(signed or large)
    if large and not signed:
        for where, (value, _) in known:
            if 0 < value <= 1:
                raise UserError(
                    f"{where}: {name} = {value}: is it a fraction or a percentage? others, such "
                    f"as {large[0][1][0]} in {large[0][0]}, are percentages; write them alike"
                )
    for where, (value, _) in known:
        if not 0 <= value <= (100 if percent else 1):
            raise UserError(
                f"{where}: {name} = {value}: must be a fraction from 0 to 1, or a percentage"
            )
    values = [None if own is None else _fraction(own[0], percent, error) for _, own in found]
    return Fractions(values, percent)


def _fraction(value: Decimal, percent: bool, error: bool) -> float:
    fraction = value / 100 if percent else value
    return float(1 - fraction if error else fraction)


def _number(name: str, row: Row) -> tuple[Decimal, bool] | None:
    """Return a cell's number and whether it has a % sign; None for a missing one."""
    cell = row.cells.get(name)
    if isinstance(cell, str):
        text = cell.removesuffix("%").strip()
        if _NUMBER.fullmatch(text):
            return Decimal(text), text != cell
        if cell.lower() in MISSING:
            return None
    elif isinstance(cell, int | float) and not isinstance(cell, bool):
        # repr has the fewest digits that mean this very float: 92.69, not 92.689999...
        return (Decimal(repr(cell)), False) if abs(cell) < float("inf") else None
    elif cell is None:
        return None
    raise UserError(f"{row.where}: {name} = {cell!r}: must be a number")


def numbers(
    name: str, rows: Iterable[Row], *, unit: Decimal, whole: bool
) -> list[float | int | None]:
    """Read a column of numbers; whole ones may group their thousands by commas.

    Raises:
        UserError: a cell is no (whole) number; names the line.
    """
    values: list[float | int | None] = []
    for row in rows:
        cell = row.cells.get(name)
        if whole and isinstance(cell, str) and _THOUSANDS.fullmatch(cell):
            row = Row(row.where, {name: cell.replace(",", "")})  # noqa: PLW2901 # same cell, plain
        found = _number(name, row)
        if found is None:
            values.append(None)
            continue
        value, signed = found
        made = value * unit
        wrong = made != made.to_integral_value() or abs(made) > MAX_WHOLE
        if signed or (wrong and whole) or abs(float(made)) == float("inf"):
            kind = "a whole number" if whole else "a number"
            raise UserError(f"{row.where}: {name} = {cell!r}: must be {kind}")
        values.append(int(made) if whole else float(made))
    return values
