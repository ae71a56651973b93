"""The looks of an ablation that is run until it is sure: what each decided, and what is open.

Such a study is looked at after every round of seeds, and a level gets no more seeds once it is
decided. An ordinary test would be wrong in five of a hundred studies at every look anew; so the
verdicts of the table are those of the looks (`statistics.sequential`), which are not.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any

from analysis.statistics.block_design import Comparison
from analysis.statistics.effects import Effect
from analysis.statistics.sequential import Decision, Path
from analysis.table_formats import Block
from analysis.text import printable
from analysis.wording import are, count, size, some
from fmnist_common.designs import variant_key
from fmnist_common.text import level_text

SEQUENTIAL = "sequential"  # how effects are judged


def decided(effects: Iterable[Effect], path: Path) -> list[Effect]:
    """Give effects the differences, intervals and verdicts of the looks."""
    return [effect if effect.is_reference else _decided(effect, path) for effect in effects]


def _decided(effect: Effect, path: Path) -> Effect:
    decision = path.decisions.get((variant_key(effect.changes), variant_key(effect.against)))
    if decision is None:  # before the first look
        decision = Decision("undecided", 0, 0, effect.delta)
    return replace(
        effect,
        method=SEQUENTIAL,
        decision=decision.verdict,
        decided_at=None if decision.verdict == "undecided" else decision.seeds,
        delta=decision.delta if decision.delta is not None else effect.delta,
        delta_low=decision.low,
        delta_high=decision.high,
        bound=decision.bound,
        p_value=None,
        p_adjusted=None,
        p_negligible=None,
    )


def blocks(path: Path | None, effects: Sequence[Effect]) -> list[Block]:
    """Lay the looks out, one below the other."""
    if path is None or not path.looks:
        return []
    names: dict[Comparison, str] = {
        (variant_key(effect.changes), variant_key(effect.against)): printable(
            f"{effect.factor} {level_text(effect.level)}"
        )
        for effect in effects
    }
    decided_at = [
        "; ".join(f"{names[pair]}: {look.decisions[pair].verdict}" for pair in look.decided)
        for look in path.looks
    ]
    columns = {
        "seeds": [str(look.seeds) for look in path.looks],
        "judged": [str(len(look.decisions)) for look in path.looks],
        "decided": [str(len(look.decided)) for look in path.looks],
        "open": [str(len(look.decisions) - len(look.decided)) for look in path.looks],
        "these": decided_at,
    }
    title = "Looks: how many levels were judged after so many seeds, and decided for good"
    return [Block(title, columns, labels=1, below="these")]


def notes(path: Path | None) -> list[str]:
    """Say how the looks are valid, and what comes next."""
    if path is None:
        return []
    lines = [
        "Looks: the study is judged after every round, and a decided level gets no more seeds. The "
        "chance of any false claim is about 5 % over all levels and all looks together (group-"
        "sequential, Lan and DeMets 1983): intervals are wider than those of a single look, and "
        "there is no p."
    ]
    if path.finished:
        return [*lines, f"Looks: finished, as {path.reason}."]
    forecast = path.forecast
    if forecast is not None:
        finds = (
            ""
            if forecast.detectable is None
            else f", and finds a true difference of {size(forecast.detectable)} points in 4 of 5 "
            "cases"
        )
        undecided = forecast.undecided
        lines.append(
            f"Looks: {count(undecided, 'level')} {are(undecided)} still undecided; the round to "
            f"{path.round} seeds takes {count(forecast.trainings, 'more training')}{finds}."
        )
    return lines


def as_dict(path: Path | None) -> dict[str, Any] | None:
    """Return the looks, JSON-ready."""
    if path is None:
        return None
    return {
        "finished": path.finished,
        "reason": path.reason or None,
        "round": path.round,
        "forecast": None if path.forecast is None else asdict(path.forecast),
        "looks": [
            {
                "seeds": look.seeds,
                "judged": len(look.decisions),
                "decided": [
                    {"changes": _changes(pair[0]), **asdict(look.decisions[pair])}
                    for pair in look.decided
                ],
            }
            for look in path.looks
        ],
    }


def _changes(key: Hashable) -> dict[str, Any]:
    return {name: level for name, _, level in key} if isinstance(key, frozenset) else {}


def told(path: Path | None) -> list[str]:
    """Say in a sentence or two how far a study is that is run until it is sure."""
    if path is None:
        return []
    settled = [pair for look in path.looks for pair in look.decided]
    levels = len(path.decisions)
    if not levels:
        return ["The study is run until it is sure; the first look has not come yet."]
    rounds = some([str(look.seeds) for look in path.looks], most=12)
    state = f"finished, as {path.reason}" if path.finished else "not finished"
    return [
        f"The study was looked at after {rounds} seeds: {len(settled)} of {count(levels, 'level')} "
        f"{are(len(settled))} decided; it is {state}."
    ]
