"""Which columns are factors: the rules for those whose name leaves it open, in one table.

A column that is a setting by its name, its source or the user is one. Of the others, three kinds
are looked at run by run: names that say nothing (`unknown`), names of runs that may be variants
(`identity`), and names of measured things that may be chosen (`cost`).
"""

import itertools
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from study.importing.design import find_design
from study.importing.names import words_of
from study.importing.reading import KEPT, Reading
from study.plans.plan import Level

FEW = 4  # runs; in a longer table a value of its own for each run is no design

RULES = (  # kind of column, what is seen, what it is then
    ("any", "one value in all runs that came to an end", "a constant"),
    ("unknown", "true/false, or a word that several runs share", "a factor"),
    ("unknown", "a word of its own in every run, where the settings tell all runs apart",
     "the name of the run"),
    ("unknown", "whole numbers that count the rows, beside other settings", "a row number"),
    ("unknown", "numbers, of which more than half are there once (of more than 4 runs)", "asked"),
    ("unknown", "fractions without which the others are a complete design", "asked"),
    ("unknown", "any other number", "a factor"),
    ("identity", "the settings tell it", "the name of a setting, not used"),
    ("identity", "levels that runs share, or nothing else varies", "a factor"),
    ("identity", "anything else", "the name of the run"),
    ("cost", "levels that runs share, and runs alike in settings and seed differ in it",
     "a factor; without a seed: asked"),
    ("cost", "a number of parameters, and nothing else varies", "a factor"),
    ("cost", "anything else", "a cost"),
)  # fmt: skip


@dataclass
class Factors:
    """What the runs vary, by column, and what is the same in all of them."""

    varying: dict[str, list[Level]] = field(default_factory=dict)  # a level per run
    constants: dict[str, Level] = field(default_factory=dict)


def find_factors(
    reading: Reading,
    levels: Mapping[str, Sequence[Level]],
    live: Sequence[int],
    *,
    told: bool,
) -> Factors:
    """Sort the columns that may be factors; what is unclear becomes a question of the reading.

    Args:
        reading: the columns' roles.
        levels: of settings and doubtful columns, by run.
        live: the runs that came to an end: failed ones define no level.
        told: whether the user named the factors.
    """
    factors = Factors()
    seen = {column: [of_runs[run] for run in live] for column, of_runs in levels.items()}
    for column in reading.settings:
        if column in levels:
            _add(factors, column, levels[column], seen[column], told=told)
    for column in [name for name, kind in reading.doubtful.items() if kind == "unknown"]:
        if column in levels:
            _unknown(reading, factors, column, levels, seen)
    for kind, decide in (("identity", _is_variant), ("cost", _is_chosen)):
        for column in [name for name, other in reading.doubtful.items() if other == kind]:
            if column not in levels:
                continue
            if len(set(seen[column])) <= 1 or not decide(reading, factors, column, seen):
                if any(figure.column == column for figure in reading.figures):
                    reading.uses[column] = _cost_words(reading, column)
                elif column not in reading.kept:
                    reading.keep(column, reading.uses.get(column) or KEPT)
            else:
                _add(factors, column, levels[column], seen[column], told=False)
                reading.figures = [figure for figure in reading.figures if figure.column != column]
                reading.uses.pop(column, None)
    return factors


def _cost_words(reading: Reading, column: str) -> str:
    words = {"parameters": "parameters", "latency_ms": "latency in ms", "seconds": "seconds",
             "images_per_second": "images per second", "best_epoch": "best epoch"}  # fmt: skip
    name = reading.names[column]
    times = f" (times {name.times})" if name.times != 1 else ""
    return f"{words.get(name.key, name.key)}{times}"


def _add(
    factors: Factors, column: str, levels: Sequence[Level], seen: Sequence[Level], *, told: bool
) -> None:
    if told or len(set(seen)) > 1:
        factors.varying[column] = list(levels)
    elif seen:
        factors.constants[column] = seen[0]


def _unknown(
    reading: Reading,
    factors: Factors,
    column: str,
    levels: Mapping[str, Sequence[Level]],
    seen: Mapping[str, Sequence[Level]],
) -> None:
    values, others = seen[column], {name: seen[name] for name in factors.varying}
    words = any(isinstance(level, str | bool) for level in values)
    runs, distinct = len(values), len(set(values))
    measured = bool(others) and _are_fractions(values) and distinct == runs
    if distinct <= 1 or (words and distinct < runs) or (runs <= FEW and not measured):
        if _counts(values) and others and not _determines(reading, others, runs, seen):
            reading.keep(column, "a row number")
        else:
            _add(factors, column, levels[column], values, told=False)
    elif words:
        if others and _tells_apart(reading, others, runs):
            reading.keep(column, "names the run")
        elif others:
            _ask(reading, column, "a word of its own in every run")
        else:
            _add(factors, column, levels[column], values, told=False)
    elif _counts(values) and others:
        reading.keep(column, "a row number")
    elif 2 * distinct > runs:
        _ask(reading, column, "hardly a number is there twice")
    elif _breaks_a_design(values, others, runs):
        _ask(reading, column, "the other columns are a complete design without it")
    else:
        _add(factors, column, levels[column], values, told=False)


def _determines(
    reading: Reading, others: Mapping[str, Sequence[Level]], runs: int,
    seen: Mapping[str, Sequence[Level]],
) -> bool:  # fmt: skip
    """Whether a small table needs a counting column to tell its runs apart."""
    return not _tells_apart(reading, others, runs)


def _ask(reading: Reading, column: str, why: str) -> None:
    reading.questions.append(
        f"{column}: was it chosen or measured ({why})? Name it among --factors, or --ignore it"
    )
    reading.uses[column] = f"a setting, or a measurement: {why}"


def _counts(levels: Sequence[Level]) -> bool:
    """Whether whole numbers count the rows, from 0 or 1."""
    whole = all(isinstance(level, int) and not isinstance(level, bool) for level in levels)
    if not whole or not levels or len(levels) < 2:
        return False
    first = levels[0]
    return first in (0, 1) and list(levels) == list(range(int(first), int(first) + len(levels)))


def _tells_apart(reading: Reading, others: Mapping[str, Sequence[Level]], runs: int) -> bool:
    """Whether the settings found so far, and a column of seeds, leave no two runs alike."""
    if reading.seeds:
        return True
    return len(set(zip(*others.values(), strict=True))) == runs


def _are_fractions(levels: Sequence[Level]) -> bool:
    return any(isinstance(level, float) and level != int(level) for level in levels)


def _breaks_a_design(
    levels: Sequence[Level], others: Mapping[str, Sequence[Level]], runs: int
) -> bool:
    if not _are_fractions(levels) or not others:
        return False
    without = find_design(others, runs)
    return (
        without.kind == "factorial" and find_design({**others, "": levels}, runs).kind == "search"
    )


def _is_variant(
    reading: Reading, factors: Factors, column: str, seen: Mapping[str, Sequence[Level]]
) -> bool:
    values, others = seen[column], [seen[name] for name in factors.varying]
    points = list(zip(*others, strict=True)) or [()] * len(values)
    if others and len(set(zip(points, values, strict=True))) == len(set(points)):
        what = "run" if len(set(values)) == len(values) else "setting"
        reading.uses[column] = f"names the {what}: {KEPT}"
        return False
    if not others:
        return not _counts(values)
    if 2 * len(set(values)) <= len(values):
        return True
    reading.uses[column] = f"names the run: {KEPT}"
    return False


def _is_chosen(
    reading: Reading, factors: Factors, column: str, seen: Mapping[str, Sequence[Level]]
) -> bool:
    values, others = seen[column], [seen[name] for name in factors.varying]
    counts = Counter(values)
    if not others and reading.names[column].key == "parameters":
        return True
    if None in counts or min(counts.values()) < 2 or 2 * len(counts) > len(values):
        return False
    seeds = [reading_seed for reading_seed in (seen.get(name) for name in reading.seeds)
             if reading_seed is not None]  # fmt: skip
    alike = list(zip(*others, *seeds, strict=True)) or [()] * len(values)
    if len(set(zip(alike, values, strict=True))) == len(set(alike)):
        return False  # the settings, or the seed, tell it
    if reading.seeds:
        return True
    if any(word in ("seconds", "s", "sec", "ms", "time") for word in words_of(column)):
        return False
    reading.questions.append(
        f"{column}: is called like a cost, but varies as settings do; name it among --factors, or "
        "--ignore it"
    )
    reading.uses[column] = "a setting, or a cost"
    return False


def ask_about_gaps(reading: Reading, told: Collection[str]) -> None:
    """Ask about a column that is filled once and then empty, as merged cells are.

    Args:
        reading: the columns' roles.
        told: what the user named as factors, whose empty cells are a level.
    """
    for column in (*reading.settings, *reading.doubtful):
        cells = reading.table.column(column)
        filled = [cell is not None for cell in cells]
        apart = not any(a and b for a, b in itertools.pairwise(filled))
        merged = filled[0] and apart and not all(filled) and len({*cells}) > 2
        if merged and column not in reading.kept and not {column, reading.text(column)} & {*told}:
            reading.questions.append(
                f"{column}: is empty below each of its values, as merged cells are; fill them in, "
                "or name it among --factors if empty is a level of its own"
            )
            reading.uses[column] = "a setting with empty cells"


def ask_about_merged(
    reading: Reading, factors: Factors, rows: Sequence[int], live: Sequence[int]
) -> None:
    """Ask about a column that is no factor, but without which runs of one seed are alike.

    Args:
        reading: the columns' roles.
        factors: what the runs vary.
        rows: of each run that came to an end, its first row.
        live: these runs.
    """
    table = reading.table
    varying = [[levels[run] for run in live] for levels in factors.varying.values()]
    seeds = [[str(table.column(name)[row]) for row in rows] for name in reading.seeds]
    if not seeds:
        return
    runs = list(zip(*varying, *seeds, strict=True))
    if len(set(runs)) == len(runs):
        return
    compared = reading.compared.column if reading.compared else None
    for column in table.columns:
        use = reading.uses.get(column, "")
        if column in factors.varying or column == compared or "you said" in use:
            continue
        cells = [str(table.rows[row].cells.get(column)) for row in rows]
        shared = min(Counter(cells).values()) > 1 and 2 * len(set(cells)) <= len(cells)
        if shared and len(set(cells)) > 1 and len({*zip(runs, cells, strict=True)}) == len(runs):
            reading.questions.append(
                f"{column}: runs that agree in all settings and the seed differ in it; name it "
                "among --factors, or --ignore it"
            )
            reading.uses[column] = f"a setting, or {use or 'not used'}"
