"""How to read a table of effects: what its figures are, and what must not be read into them."""

from analysis import mirrored
from analysis.statistics.effects import FEWEST_PAIRS, Effect
from analysis.statistics.power import ALPHA
from analysis.table_formats import for_scale
from analysis.tables import looks
from analysis.tables.effect_figures import EffectFigures
from analysis.text import printable
from analysis.verdicts import PROVEN
from analysis.wording import some
from fmnist_common.text import level_text


def notes(table: EffectFigures) -> list[str]:
    """Say how to read the differences, in plain words."""
    scale = for_scale(table.baseline.test_accuracy_mean, table.test_images)
    flips = mirrored.notes([table.baseline, *table.effects])
    if not table.effects:
        return ["± is the standard deviation of n trials; no factor is varied.", *flips, *scale]
    return [
        *_of_method(table),
        *_of_verdicts(table),
        *_of_failures(table),
        *_of_pairs(table),
        *_of_collapses(table),
        *flips,
        *_of_test_data(table),
        *_of_power(table),
        *scale,
    ]


def _of_method(table: EffectFigures) -> list[str]:
    if table.looks is not None:
        return [
            f"{_difference(table)}[ ] is its interval, valid for all levels and looks together. ± "
            "is the standard deviation of n trials.",
            *looks.notes(table.looks),
        ]
    return _of_strict(table) if table.strict else _of_simultaneous(table)


def _difference(table: EffectFigures) -> str:
    return (
        f"Difference: level minus {table.reference} in {table.quantity.points}, paired by "
        f"{table.paired_by}; "
    )


def _of_simultaneous(table: EffectFigures) -> list[str]:
    family = table.family
    together = (
        f"of all {family} in this table together: none misses the truth in 95 of 100 studies"
        if family > 1
        else "of a single comparison"
    )
    lines = [
        f"{_difference(table)}[ ] is its 95 % interval, {together}. ± is the standard deviation of "
        "n trials."
    ]
    if family > 1:
        lines.append(
            f"p: two-sided, corrected for all {family} comparisons (Dunnett), by the spread that "
            f"variants have in common with their own; at most {ALPHA} exactly where [ ] excludes 0."
        )
    elif family:
        lines.append(f"p: two-sided t-test; at most {ALPHA} exactly where [ ] excludes 0.")
    if table.factors:
        number = len(table.factors)
        corrected = f", corrected by Holm for {number} factors" if number > 1 else ""
        lines.append(
            "A factor's own row: whether any of its levels matters at all (F test of the same "
            f"model{corrected})."
        )
    return lines


def _of_strict(table: EffectFigures) -> list[str]:
    lines = [
        f"{_difference(table)}[ ] is its 95 % interval by itself (paired t, not corrected). ± is "
        "the standard deviation of n trials."
    ]
    if table.family:
        corrected = (
            f", corrected by Holm for all {table.family} comparisons of this table"
            if table.family > 1
            else "; a single comparison needs no correction"
        )
        lines.append(f"p (strict): two-sided t-test of the level's own pairs{corrected}.")
    return lines


def _of_verdicts(table: EffectFigures) -> list[str]:
    effects = table.effects
    words = {effect.claim for effect in effects}
    rule = f"p is at most {ALPHA}" if table.looks is None else "decided at a look"
    lines = [
        f"Better and worse: {rule}{_direction(table)}. Not proven: chance may explain it; the true "
        "difference is at most ± what 'at most' says."
    ]
    if table.negligible is not None:
        lines.append(
            f"Proven negligible: the true difference is within ±{100 * table.negligible:g} points, "
            "which the plan calls negligible (two one-sided tests, corrected)."
        )
    if "too few" in words:
        lines.append(
            f"Too few: with fewer than {FEWEST_PAIRS} pairs no claim is made. Run more seeds."
        )
    if "reference" in words:
        lines.append("Reference: the rows of a table are compared with it.")
    if "identical" in words:
        lines.append(f"Identical: no seed's {table.quantity.noun} changed at all.")
    if any(_is_constant(effect) for effect in effects):
        lines.append(
            "Without [ ]: the difference is the same for every seed, to the last image, so that "
            "there is no spread to judge it by. That is a coincidence of coarse accuracies, and no "
            "proof."
        )
    if any(effect.n and not effect.paired for effect in effects):
        lines.append(
            "* Not paired, as fewer than two seeds are in common: Welch's t, which needs more data."
        )
    return lines


def _direction(table: EffectFigures) -> str:
    return "; lower is better" if table.quantity.lower_is_better else ""


def _is_constant(effect: Effect) -> bool:
    return bool(effect.delta) and effect.delta_low is None and effect.compared >= FEWEST_PAIRS


def _of_failures(table: EffectFigures) -> list[str]:
    lines = []
    if any(row.failed and row.n for row in (table.baseline, *table.effects)):
        lines.append(
            "Failed k/n: k of n trainings diverged or failed. What the others reach is no evidence "
            "for the level: its seeds were chosen by their result. So it is not called better, nor "
            "is it the best; and nothing is called worse than a reference that failed."
        )
    if any(effect.claim == "diverged" for effect in table.effects):
        lines.append("Diverged: on every seed; running it again would change nothing.")
    return lines


def _of_pairs(table: EffectFigures) -> list[str]:
    """Say which rows' means are not of the pairs that their difference is of."""
    uneven = [
        effect
        for effect in table.effects
        if effect.paired
        and effect.delta is not None
        and effect.compared < max(effect.n, 0 if effect.against else table.baseline.n)
    ]
    by_design = table.looks is not None  # a decided level gets no more seeds
    if not uneven or by_design or not table.rows_are_variants:
        return []
    names = some([f"{effect.factor} {level_text(effect.level)}" for effect in uneven])
    return [
        printable(
            f"Incomplete pairs ({names}): not all seeds are in common with what the row is "
            "compared with. Means are of all its trials, the difference takes the seeds into "
            "account: the two need not agree, and the difference is the one to go by."
        )
    ]


def _of_collapses(table: EffectFigures) -> list[str]:
    amount = table.quantity.amount
    return [
        f"Collapsed: {name} reached {amount(collapse.value, 1)}, where half of that variant's "
        f"trainings reach {amount(collapse.median, 1)}. Its difference is that of one training "
        "above all: look at what happened there."
        for name, collapse in table.named_collapses()
    ]


def _of_test_data(table: EffectFigures) -> list[str]:
    if all(effect.test_delta is None for effect in table.effects):
        return []
    lines = [
        "Difference in test accuracy: judged like the other, and decides nothing. Its interval "
        "does not hold the luck of the test images, which all trainings share."
    ]
    doubtful = [_in_test(effect) for effect in table.effects if unsupported(effect)]
    if doubtful:
        lines.append(f"Proven in validation, and not seen in test data: {some(doubtful)}.")
    unseen = [_in_test(effect) for effect in table.effects if only_in_test(effect)]
    if unseen:
        lines.append(f"Not proven in validation, and seen in test data: {some(unseen)}.")
    return lines


def _in_test(effect: Effect) -> str:
    delta = f"{100 * (effect.test_delta or 0.0):+.2f}"
    return printable(f"{effect.factor} {level_text(effect.level)} ({delta})")


def unsupported(effect: Effect) -> bool:
    """Whether a proven difference is not seen in test accuracy."""
    sign = _test_sign(effect)
    return effect.claim in PROVEN and sign is not None and sign * (effect.delta or 0.0) <= 0


def only_in_test(effect: Effect) -> bool:
    """Whether test accuracy differs, where no difference is proven in what is compared."""
    return effect.claim == "not proven" and bool(_test_sign(effect))


def _test_sign(effect: Effect) -> int | None:
    """Return the sign of the difference in test accuracy; 0: its interval holds 0."""
    if effect.test_delta_low is None or effect.test_delta_high is None:
        return None
    return (effect.test_delta_low > 0) - (effect.test_delta_high < 0)


def _of_power(table: EffectFigures) -> list[str]:
    """Say what differences the study finds."""
    smallest = table.detectable_difference()
    if smallest is None:
        return []
    among = f" among its {table.family} comparisons" if table.family > 1 else ""
    difference = table.quantity.gap(smallest)
    return [
        f"Power: the study finds a true difference of about {difference}{among} in 4 "
        "of 5 cases. Smaller ones are missed more often."
    ]
