"""What whoever runs a plan should know of it first: it is valid, and yet not what it seems."""

from collections.abc import Iterator

from fmnist_common.text import level_text
from study.plans.plan import Plan
from study.plans.unread import unread_factors

FEW_FOR_WILCOXON = 4  # seeds; of 3 pairs, the last one's are judged by, no p is below 1/8


def remarks(plan: Plan) -> list[str]:
    """Return a line for each."""
    unread = (unread.message for unread in unread_factors(plan))
    return [*unread, *_of_single_levels(plan), *_of_search(plan)]


def _of_single_levels(plan: Plan) -> Iterator[str]:
    listed = {row.factor for row in plan.listed}
    for name, levels in plan.factors.items():
        compared = levels if plan.design == "factorial" else plan.levels(name)
        if len(compared) == 1 and name not in listed:
            level = level_text(compared[0])
            yield f"factors.{name}: has no level but {level}, so that nothing is compared"


def _of_search(plan: Plan) -> Iterator[str]:
    search = plan.search
    if search is None:
        return
    for parameter in search.space:
        if parameter.step is not None and parameter.last != parameter.high:
            yield (
                f"search.space.{parameter.name}: steps of {parameter.step:g} from "
                f"{parameter.low:g} end at {parameter.last:g}, not at {parameter.high:g}"
            )
    if search.pruner == "wilcoxon" and plan.seeds <= FEW_FOR_WILCOXON:
        yield (
            f"search.pruner = 'wilcoxon': cannot give a candidate up with {plan.seeds} "
            f"seed{'s' if plan.seeds > 1 else ''}; it needs {FEW_FOR_WILCOXON + 1}"
        )
    if search.exhaustive:
        yield f"search.space: has {search.trials} points in all; each is tried once"
