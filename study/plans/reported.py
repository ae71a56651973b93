"""What others reported about a plan's variants: `[source]`, `[[reported]]` and `[[claims]]`.

Checked and carried along as plain tables; the analysis sets them beside what was measured. They
decide nothing, and so a study goes on when they change.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fmnist_common.text import level_text
from study.plans.variants import Check, Level, Row, checked, listed, table, text, variant_of
from trainer.config import TrainConfig
from trainer.errors import UserError, choose

SELECTED_ON = ("test", "validation")


def _whole(least: int) -> Check:
    def check(value: Any) -> str | None:
        valid = isinstance(value, int) and not isinstance(value, bool)
        if valid and least <= value <= 10**12:
            return None
        return f"must be a whole number from {least} to 1000000000000"

    return check


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _positive(value: Any) -> str | None:
    # Said so that NaN, which compares with nothing, is wrong.
    return None if _is_number(value) and 0 < value <= 1e12 else "must be a number above 0"


def _fraction(value: Any) -> str | None:
    return None if _is_number(value) and 0 <= value <= 1 else "must be a fraction from 0 to 1"


def _range(value: Any) -> str | None:
    if isinstance(value, (list, tuple)) and len(value) == 2 and not any(map(_fraction, value)):
        return None if value[0] < value[1] else "must be [low, high], low below high"
    return "must be [low, high], two fractions from 0 to 1"


def _selected_on(value: Any) -> str | None:
    return None if value in SELECTED_ON else f"choose from {', '.join(SELECTED_ON)}"


def _url(value: Any) -> str | None:
    plain = text(value) is None and " " not in value
    if plain and value.startswith(("https://", "http://")):
        return None
    return "must be an address that begins with https:// or http://"


def _any_level(value: Any) -> str | None:
    return None if isinstance(value, (bool, int, float, str)) else "must be a level of the factor"


def _level_or_combination(value: Any) -> str | None:
    if isinstance(value, dict) and len(value) > 1:
        return None
    return (
        None
        if _any_level(value) is None
        else "must be a level of the factor, or one of each of several"
    )


def _some_levels(value: Any) -> str | None:
    if isinstance(value, (list, tuple)) and len(value) > 1 and not any(map(_any_level, value)):
        return None
    return "must be two levels of the factor or more"


def _is_true(value: Any) -> str | None:
    return None if value is True else "must be true, or left out"


_SOURCE: Mapping[str, Check] = {
    "name": text,
    "selected_on": _selected_on,  # which data chose the epoch whose figure was reported
    "test_images": _whole(1),
    "runs": _whole(0),  # per figure; 0: not known
    "url": _url,
    "license": text,  # of what is at the address, in any words
    "note": text,
}
_FIGURES: Mapping[str, Check] = {
    "test_accuracy": _fraction,
    "test_accuracy_range": _range,  # of several variants, or read from a picture
    "parameters": _whole(1),
    "latency_ms": _positive,  # one image
    "images_per_second": _positive,
    "model_bytes": _whole(1),
    "seconds": _positive,  # of training
}
_REPORTED: Mapping[str, Check] = {
    "changes": table,
    **_FIGURES,
    "epochs": _whole(1),  # of the training behind the figures, where the plan has another number
    "note": text,
}
CLAIM: Mapping[str, Check] = {
    "text": text,
    "factor": text,
    "best": _level_or_combination,
    "better": _any_level,  # than the level `than`, or than all others
    "worse": _any_level,
    "no_worse": _any_level,
    "than": _any_level,
    "no_effect": _is_true,
    "among": _some_levels,  # the levels that it speaks of; left out: all
    "negligible": _positive,  # a difference that is none: points of accuracies
    "with": table,  # where these levels are: an interaction
}
LEVELS_OF_CLAIMS = ("best", "better", "worse", "no_worse", "than")
SAYINGS = ("best", "better", "worse", "no_worse", "no_effect")


@dataclass(frozen=True)
class Figures:
    """The three tables of a plan, as they were written but for `changes`, which are in full."""

    source: Mapping[str, Any] | None = None
    reported: Sequence[Mapping[str, Any]] = ()
    claims: Sequence[Mapping[str, Any]] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return what there is, JSON-ready."""
        tables = {
            "source": dict(self.source) if self.source else None,
            "reported": [dict(entry) for entry in self.reported],
            "claims": [dict(entry) for entry in self.claims],
        }
        return {key: content for key, content in tables.items() if content}


def parse_figures(
    values: Mapping[str, Any],
    base: TrainConfig,
    rows: Sequence[Row],
    levels: Mapping[str, Sequence[Level]],
) -> Figures:
    """Read `[source]`, `[[reported]]` and `[[claims]]`.

    Args:
        values: the plan's tables.
        base: its baseline.
        rows: its rows; none: a search.
        levels: of each of its factors, listed ones too.

    Raises:
        UserError: a key is unknown or missing, its value invalid, or it speaks of what the plan
            does not have; the message names it.
    """
    required = ("name", "selected_on", "test_images", "runs")
    source = checked("source", values["source"], _SOURCE, required) if "source" in values else None
    reported = _reported(values.get("reported", ()), base, rows)
    claims = _claims(values.get("claims", ()), levels)
    for key, entries in (("reported", reported), ("claims", claims)):
        if entries and source is None:
            raise UserError(f"source: is missing; whose are the tables [[{key}]]?")
    return Figures(source, reported, claims)


def _reported(
    entries: Any, base: TrainConfig, rows: Sequence[Row]
) -> tuple[Mapping[str, Any], ...]:
    # As many figures as rows: experiments may differ in epochs alone, which --epochs makes equal.
    left = Counter(row.variant for row in rows)
    reported = []
    for key, entry in listed("reported", entries):
        fields = checked(key, entry, _REPORTED, ("changes",))
        if not fields.keys() & _FIGURES.keys():
            raise UserError(f"{key}: has no figure; give one of {', '.join(_FIGURES)}")
        if "test_accuracy" in fields and "test_accuracy_range" in fields:
            raise UserError(f"{key}: give test_accuracy or test_accuracy_range, not both")
        variant = variant_of(f"{key}.changes", fields["changes"], base)
        if variant not in left:
            raise UserError(f"{key}.changes: {variant.label} is no variant of the plan")
        if not left[variant]:
            raise UserError(f"{key}.changes: {variant.label} is reported twice")
        left[variant] -= 1
        reported.append({**fields, "changes": dict(variant.changes)})
    return tuple(reported)


def _claims(entries: Any, levels: Mapping[str, Sequence[Level]]) -> tuple[Mapping[str, Any], ...]:
    claims = []
    for key, entry in listed("claims", entries):
        claim = checked(key, entry, CLAIM, ("text",))
        check_claim(key, claim, levels)
        claims.append(claim)
    return tuple(claims)


def check_claim(key: str, claim: Mapping[str, Any], levels: Mapping[str, Sequence[Level]]) -> None:
    """Check that a claim speaks of factors and levels that there are.

    Raises:
        UserError: it does not, or says two things at once; the message names the key.
    """
    said = [word for word in SAYINGS if word in claim]
    combined = claim["best"] if isinstance(claim.get("best"), dict) else {}
    if combined and "factor" in claim:
        raise UserError(f"{key}.factor: best names factors itself")
    if "factor" in claim and claim["factor"] not in levels:
        raise UserError(choose(f"{key}.factor", claim["factor"], list(levels)))
    if said and "factor" not in claim and not combined:
        raise UserError(f"{key}.factor: is missing; {said[0]} = {claim[said[0]]!r} of what?")
    if len(said) > 1:
        raise UserError(f"{key}: says {' and '.join(said)}; make a claim of each")
    if "than" in claim and not {"better", "worse", "no_worse"} & {*said}:
        raise UserError(f"{key}.than: belongs to better, worse or no_worse")
    for word in ("among", "with"):
        if word in claim and not said:
            raise UserError(f"{key}.{word}: belongs to one of {', '.join(SAYINGS)}")
    if "negligible" in claim and not {"no_worse", "no_effect"} & {*said}:
        raise UserError(f"{key}.negligible: belongs to no_worse or no_effect")
    spoken_of = {claim.get("factor"), *combined}
    for factor in claim.get("with", {}):
        if factor not in levels or factor in spoken_of:
            others = [name for name in levels if name not in spoken_of]
            raise UserError(choose(f"{key}.with", factor, others))
    for factor in combined:
        if factor not in levels:
            raise UserError(choose(f"{key}.best", factor, list(levels)))
    _check_levels(key, claim, levels)


def _check_levels(
    key: str, claim: Mapping[str, Any], levels: Mapping[str, Sequence[Level]]
) -> None:
    """Check every level that a claim names, of factors that there are."""
    named: list[tuple[str, str, Any]] = []
    for word in (*LEVELS_OF_CLAIMS, "with", "among"):
        said = claim.get(word)
        if isinstance(said, dict):
            named += [(f"{word}.{factor}", factor, level) for factor, level in said.items()]
        elif said is not None:
            of = said if isinstance(said, (list, tuple)) else [said]
            named += [(word, claim["factor"], level) for level in of]
    for word, factor, level in named:
        names = [level_text(choice) for choice in levels[factor] if choice is not None]
        if level_text(level) not in names:
            raise UserError(choose(f"{key}.{word}", level, names))
