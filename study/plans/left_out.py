"""Levels that a run leaves out of a plan: `--without width=512`, which takes too long here."""

from collections.abc import Mapping, Sequence
from typing import Any

from fmnist_common.text import level_text
from study.plans.reported import LEVELS_OF_CLAIMS
from trainer.config import TrainConfig
from trainer.errors import UserError, choose

Values = Mapping[str, Any]


def without(values: Values, named: Sequence[str]) -> dict[str, Any]:
    """Return a plan's tables without some levels of its factors, and without what is said of them.

    Args:
        values: the plan, for its data set.
        named: `FACTOR=LEVEL` each.

    Raises:
        UserError: there is no such factor or level, or it is the baseline's.
    """
    plan = dict(values)
    for text in named:
        plan = _without(plan, *_named(plan, text))
    return plan


def _named(plan: Values, text: str) -> tuple[str, Any]:
    """Return the factor and the level that a text names."""
    factor, _, wanted = text.partition("=")
    levels = _levels(plan)
    if plan.get("search"):
        raise UserError(f"without = {text!r}: a search has a space, and no levels to leave out")
    if factor not in levels:
        raise UserError(choose("without", factor, list(levels)))
    by_text = {level_text(level): level for level in levels[factor]}
    if wanted not in by_text:
        raise UserError(choose(f"without {factor}", wanted, list(by_text)))
    level = by_text[wanted]
    if factor in plan.get("factors", {}) and level == _of_baseline(plan, factor):
        raise UserError(f"without = {text!r}: is the baseline's, which others are compared with")
    return factor, level


def _levels(plan: Values) -> dict[str, list[Any]]:
    levels = {name: list(tried) for name, tried in plan.get("factors", {}).items()}
    for row in plan.get("variants", ()):
        levels.setdefault(row["factor"], []).append(row["level"])
    return levels


def _of_baseline(plan: Values, factor: str) -> Any:
    return plan.get("baseline", {}).get(factor, getattr(TrainConfig, factor, None))


def _without(plan: Values, factor: str, level: Any) -> dict[str, Any]:
    factors = {
        name: [value for value in tried if name != factor or value != level]
        for name, tried in plan.get("factors", {}).items()
    }
    rows: list[Values] = []
    gone: list[Values] = []
    for row in plan.get("variants", ()):
        named = (row["factor"], row["level"]) == (factor, level)
        (gone if named else rows).append(row)
    changes = [row["changes"] for row in gone if all(row["changes"] != r["changes"] for r in rows)]
    in_factors = factor in plan.get("factors", {})

    def stays(entry: Values) -> bool:
        listed = entry.get("changes") in changes
        return not (listed or (in_factors and entry.get("changes", {}).get(factor) == level))

    def speaks_of(claim: Values) -> bool:
        said = [claim[key] for key in LEVELS_OF_CLAIMS if key in claim]
        return claim.get("factor") == factor and level in (*said, *claim.get("among", ()))

    left = {
        "factors": {name: tried for name, tried in factors.items() if tried},
        "variants": rows,
        "reported": [entry for entry in plan.get("reported", ()) if stays(entry)],
        "claims": [claim for claim in plan.get("claims", ()) if not speaks_of(claim)],
    }
    return {**plan, **{key: content for key, content in left.items() if key in plan}}
