"""Sections of an ablation or a factorial: its effects, and each factor by itself."""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from analysis import mirrored
from analysis.figures.base import Level, slug
from analysis.figures.curves import level_courses
from analysis.figures.forest import forest
from analysis.figures.replicates import replicates
from analysis.page.parts import (
    NOTHING,
    Cell,
    Column,
    Part,
    Section,
    Sheet,
    capital,
    difference,
    gap,
    headed,
    interval,
    missing,
    number,
    sheets,
    spread,
)
from analysis.quantity import ACCURACY, Quantity
from analysis.statistics.effects import Effect, Row
from analysis.statistics.rows import PlannedRow, baseline_level, groups
from analysis.tables import looks
from analysis.tables.effect_notes import only_in_test, unsupported
from analysis.tables.effects import EffectTable, at_most, factor_verdict
from analysis.text import p_text, printable
from analysis.trials import Study, Trial, finished
from analysis.verdicts import PROVEN, verdict
from analysis.wording import some
from fmnist_common.designs import variant_key
from fmnist_common.text import level_text, variant_label

CURVES_OF_LEVELS = 12  # levels whose mean curves can be told apart


def effects(table: EffectTable) -> list[Section]:
    """Show the difference that every level makes."""
    intro, shown = [], []
    compared = [effect for effect in table.effects if effect.delta is not None]
    if compared:
        words = [verdict(effect) for effect in table.effects]
        shown = [forest(table.effects, words, table.quantity, strict=table.strict)]
    elif table.effects:
        intro = ["Nothing can be compared yet."]
    more = _evidence_sheet(table.quantity, table.effects)
    tables = [*_factor_sheet(table), _effect_sheet(table), *more]
    tables += sheets(looks.blocks(table.looks, table.effects))
    return [Section("effects", "Effects", intro, [Part(figures=shown, sheets=tables)])]


def _factor_sheet(table: EffectTable) -> list[Sheet]:
    """Say of each factor whether it matters at all."""
    if not table.factors:
        return []
    columns = [
        Column("factor", numeric=False),
        Column("F", hint="of the hypothesis that no level differs from its reference"),
        Column("df", hint="degrees of freedom: of the factor, of the error"),
        Column("p", hint="corrected by Holm for all factors"),
        Column("verdict", numeric=False),
    ]
    rows = []
    for test in table.factors:
        word = factor_verdict(test.p_adjusted)
        rows.append(
            [
                Cell(printable(test.factor)),
                number(test.f, 2),
                Cell(f"{test.degrees}, {test.error_degrees:.0f}", test.degrees, "number"),
                Cell(p_text(test.p_adjusted), test.p_adjusted, "number"),
                Cell(word, kind="" if word == "matters" else "open"),
            ]
        )
    return [Sheet("Does a factor matter at all?", columns, rows)]


def _effect_sheet(table: EffectTable) -> Sheet:
    quantity, compared = table.quantity, table.progress.objective
    columns = [
        Column("factor", numeric=False),
        Column("level", numeric=False),
        Column("n", hint="finished trials"),
        Column(headed(quantity), hint=f"{compared}: mean ± standard deviation of n trials"),
        Column("difference", hint=f"in {quantity.points}, and its 95 % interval"),
        Column("p", hint="two-sided, corrected for all comparisons of the table"),
        Column("verdict", numeric=False),
        Column("in test", numeric=False, hint="whether test data shows what is proven"),
        Column(
            "test difference",
            hint="in points of test accuracy, and its interval, which misses the luck of the test "
            "images; decides nothing",
        ),
        Column("test %", hint=f"test accuracy: {table.test_use}"),
        Column("parameters"),
        Column("seconds", hint="mean training time"),
    ]

    def before(row: Row) -> list[Cell]:
        mean = spread(row.val_accuracy_mean, row.val_accuracy_std, quantity)
        return [Cell(f"{row.n:,}", row.n, "number"), mean]

    def after(row: Row, in_test: Sequence[Cell]) -> list[Cell]:
        mean = spread(row.test_accuracy_mean, row.test_accuracy_std)
        mean = replace(mean, text=mirrored.mark(mean.text, row))
        return [*in_test, mean, number(row.parameters), number(row.seconds, 1)]

    middle = [
        Cell("", "", "number"),
        Cell("", "", "number"),
        Cell(table.told_of_baseline(), ""),
    ]
    # A factorial need not contain the baseline.
    shown = table.baseline.n > 0 or table.rows_are_variants
    base = table.baseline
    nothing = [Cell(""), Cell("", "", "number")]
    first = [Cell("baseline"), Cell(""), *before(base), *middle, *after(base, nothing)]
    pinned = [first] if shown else []
    rows = [
        [
            *_named(effect),
            *before(effect),
            *_judged(quantity, effect, table.told(effect)),
            *after(effect, _in_test(effect)),
        ]
        for effect in table.effects
    ]
    notes = mirrored.notes([base, *table.effects])
    return Sheet("Every level against the baseline", columns, rows, pinned, notes)


def _judged(quantity: Quantity, effect: Effect, told: str) -> list[Cell]:
    word = effect.claim
    if effect.delta is None:
        return [missing(), missing(), Cell(told, kind="open")]
    text = _with_interval(quantity, effect.delta, effect.delta_low, effect.delta_high)
    p, bound = effect.p_adjusted, at_most(quantity, effect)
    if bound:
        told += f", at most {bound}"
    return [
        Cell(text + ("" if effect.paired else " *"), effect.delta, "number"),
        missing() if p is None else Cell(p_text(p), p, "number"),
        Cell(told, kind=word if word in ("better", "worse") else "open"),
    ]


def _with_interval(quantity: Quantity, delta: float, low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return gap(quantity, delta)
    return f"{gap(quantity, delta)} [{gap(quantity, low)}, {gap(quantity, high)}]"


def _in_test(effect: Effect) -> list[Cell]:
    """Return the difference in test accuracy, and whether it shows what is proven."""
    if effect.test_delta is None:
        return [Cell(NOTHING, kind="open"), missing()]
    text = _with_interval(
        ACCURACY, effect.test_delta, effect.test_delta_low, effect.test_delta_high
    )
    word = ""
    if unsupported(effect):
        word = "not seen"
    elif effect.claim in PROVEN and effect.test_delta_low is not None:
        word = "seen, too"
    elif only_in_test(effect):
        word = "only here"
    return [Cell(word, kind="open"), Cell(mirrored.mark(text, effect), effect.test_delta, "number")]


def _named(effect: Effect) -> list[Cell]:
    numeric = isinstance(effect.level, int | float) and not isinstance(effect.level, bool)
    return [
        Cell(printable(effect.factor)),
        Cell(printable(level_text(effect.level)), effect.level if numeric else None, "label"),
    ]


def _evidence_sheet(quantity: Quantity, effects: Sequence[Effect]) -> list[Sheet]:
    """Make the table of what decides nothing, but what a reviewer may ask for."""
    shown = [effect for effect in effects if effect.improvement is not None]
    if not shown:
        return []
    columns = [
        Column("factor", numeric=False),
        Column("level", numeric=False),
        Column("difference", hint=f"in {quantity.points}"),
        Column("bootstrap interval", hint="95 %, bias-corrected and accelerated"),
        Column("p, alone", hint="were it the only comparison of the study"),
        Column("p, strict", hint="paired t-test, corrected by Holm: what --strict judges by"),
        Column("p, sign flips", hint="exact permutation test of the pairs, not corrected"),
        Column(
            "P(better)", hint="chance that a run is better than its pair, and its 95 % interval"
        ),
        Column("standardised", hint="difference in standard deviations of the differences"),
        Column("detectable", hint="true difference that so many pairs mostly find"),
    ]
    rows = [
        [
            *_named(effect),
            difference(effect.delta, quantity),
            interval(effect.delta_bca_low, effect.delta_bca_high, partial(gap, quantity)),
            number(effect.p_value, 3),
            number(effect.p_holm, 3),
            number(effect.p_permutation, 3),
            _chance(effect),
            number(effect.standardized, 2),
            missing()
            if effect.detectable is None
            else Cell(quantity.number(effect.detectable), effect.detectable, "number"),
        ]
        for effect in shown
    ]
    notes = [
        "None of these decides a verdict; that is the corrected p above. With few pairs the "
        "bootstrap interval is too narrow, and sign flips cannot reach a small p: "
        "2 / 2**n at best, 0.062 with 5 pairs."
    ]
    return [Sheet("More about each difference", columns, rows, notes=notes, folded=True)]


def _chance(effect: Effect) -> Cell:
    if effect.improvement is None:
        return missing()
    text = f"{effect.improvement:.2f}"
    if effect.improvement_low is not None and effect.improvement_high is not None:
        text += f" [{effect.improvement_low:.2f}, {effect.improvement_high:.2f}]"
    return Cell(text, effect.improvement, "number")


OF_TRIALS = (
    "A dot is a trial; lines join trials that have all else in common (seed, split, data order). "
    "Diamonds are means; a bar is the 95 % interval of the difference from the dashed line, the "
    "mean of the grey level."
)
OF_CURVES = (
    "Beside them, mean learning curves: solid in validation, with a band from the lowest trial to "
    "the highest, dotted in training; a curve ends where the first of its trials ended."
)


def factors(study: Study, trials: Sequence[Trial], table: EffectTable) -> list[Section]:
    """Show each factor's trials, level by level, and how they learned."""
    if not table.effects:
        return []
    by_factor = levels_of(study, trials)
    parts = []
    for index, (factor, levels) in enumerate(by_factor.items()):
        shown = [level for level in levels if level.trials]
        if not shown:
            continue
        levels_effects = [effect for effect in table.effects if effect.factor == factor]
        by_label = {level_text(effect.level): effect for effect in levels_effects}
        against = [None if level.reference else by_label.get(level.label) for level in levels]
        figures = [
            replicates(factor, levels, against, study.quantity, f"trials-{slug(factor, index)}")
        ]
        if len(shown) <= CURVES_OF_LEVELS and table.quantity.is_accuracy:
            curves = level_courses(factor, levels, f"curves-{slug(factor, index)}")
            figures += [curves] if curves is not None else []
        parts.append(Part(printable(factor), [_verdicts(table, levels_effects)], figures=figures))
    if not parts:
        return []
    curves_too = any(len(part.figures) > 1 for part in parts)
    intro = [OF_TRIALS, *([OF_CURVES] if curves_too else [])]
    return [Section("factors", "Factor by factor", intro, parts)]


def _verdicts(table: EffectTable, effects: Sequence[Effect]) -> str:
    """Say what came of a factor: "Worse: 1 (−4.40 points). Not proven: 5 (+0.25 points)."."""
    words: dict[str, list[str]] = {}
    for effect in effects:
        delta = f" ({table.quantity.gap(effect.delta, sign=True)})" if effect.delta else ""
        level = printable(level_text(effect.level))
        words.setdefault(table.told(effect), []).append(level + delta)
    return " ".join(f"{capital(word)}: {some(levels, most=12)}." for word, levels in words.items())


def levels_of(study: Study, trials: Sequence[Trial]) -> dict[str, list[Level]]:
    """Group the finished trials by factor and level, in plan order, references included."""
    by_factor: dict[str, list[Level]] = defaultdict(list)
    planned = study.plan.get("factors", {})
    references: set[tuple[str, Hashable]] = set()
    for row, trials_of, other in groups(study.plan, finished(trials)):
        levels = by_factor[row.factor]
        reference = row.factor, variant_key(row.against)
        if reference not in references and variant_key(row.changes) != reference[1]:
            references.add(reference)
            levels.append(Level(_reference_label(study.plan, row), other, reference=True))
        is_reference = variant_key(row.changes) == variant_key(row.against)
        if is_reference:
            references.add(reference)
        levels.append(Level(level_text(row.level), trials_of, reference=is_reference))
    for factor, levels in by_factor.items():
        order = [level_text(level) for level in planned.get(factor, [])]
        if all(level.label in order for level in levels):
            levels.sort(key=lambda level: order.index(level.label))
    return dict(by_factor)


def _reference_label(plan: Mapping[str, Any], row: PlannedRow) -> str:
    if row.factor in plan.get("factors", {}) and row.changes.keys() == {row.factor}:
        return level_text(baseline_level(plan, row.factor))
    return variant_label(row.against)
