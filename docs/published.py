"""The published studies of a database, and single figures of them, for results.py."""

import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np

from analysis.claims import JudgedClaim
from analysis.designs import results
from analysis.designs.base import Results
from analysis.reported import ReportedRow
from analysis.statistics.effects import Effect
from analysis.tables.effects import EffectTable
from analysis.text import percent
from analysis.training_times import last_ended
from analysis.trials import Study, connect, finished, studies, trials
from fmnist_common.text import level_text

FILE = ROOT / "studies.db"
PREFIX = "reference/"
# In which order they are told; others follow.
ORDER = (
    "ablation", "ablation-10000-images", "pooling", "structure", "lenet", "batchnorm-lr",
    "recipes", "references", "search", "record-search", "record-ablation",
    "record", "record-without-flip", "record-80-epochs", "record-300k", "record-500k",
)  # fmt: skip


class Published:
    """The published studies of a database, each computed when it is asked for."""

    def __init__(self, file: Path = FILE) -> None:
        self._engine = connect(f"sqlite:///{file}")
        found = {study.name: study for study in studies(self._engine)}
        names = [name for name in found if name.startswith(PREFIX)]
        self.studies: Mapping[str, Study] = {
            name: found[name] for name in sorted(names, key=_place)
        }
        self.of = cache(self._of)

    def _of(self, name: str) -> Results[Any] | None:
        """Compute the results of a study; None: it is not there."""
        if name not in self.studies:
            return None
        study = self.studies[name]
        return results(study, trials(self._engine, study.id))

    def __iter__(self) -> Iterator[tuple[str, Results[Any]]]:
        """Yield every study with its results."""
        for name in self.studies:
            found = self.of(name)
            if found is not None:
                yield name, found

    @cached_property
    def reported(self) -> list[tuple[str, str, ReportedRow]]:
        """Every reported figure: the study, whose it is, and the row."""
        return [
            (name, found.table.source["name"], row)
            for name, found in self
            if isinstance(found.table, EffectTable)
            for row in found.table.reported
        ]

    @cached_property
    def claims(self) -> list[tuple[str, Results[Any], JudgedClaim]]:
        """Every claim with the study that judges it."""
        return [
            (found.table.source["name"], found, claim)
            for _, found in self
            if isinstance(found.table, EffectTable)
            for claim in found.table.claims
        ]


def _place(name: str) -> tuple[int, str]:
    short = name.removeprefix(PREFIX)
    return (ORDER.index(short) if short in ORDER else len(ORDER)), short


def states(published: Published) -> dict[str, str]:
    """Say of each study what tells it from another of its name: when its last training ended."""
    ends = {name: last_ended(found.trials) for name, found in published}
    return {name: "never" if end is None else end.isoformat() for name, end in ends.items()}


def effects_of(found: Results[Any]) -> EffectTable:
    """Return the table of a study that has one of effects.

    Raises:
        ValueError: it has none.
    """
    if not isinstance(found.table, EffectTable):
        raise ValueError(f"results: {found.study.name}: has no table of effects")
    return found.table


def _effect(found: Results[Any], factor: str, level: str) -> Effect:
    for effect in effects_of(found).effects:
        if (effect.factor, level_text(effect.level)) == (factor, level):
            return effect
    raise ValueError(f"results: {found.study.name}: has no level {factor} {level}")


def _spread(mean: float | None, std: float | None) -> str:
    return percent(mean) + ("" if std is None else f" ± {percent(std)}") + " %"


def _seed_spread(found: Results[Any]) -> str:
    rows = [effects_of(found).baseline, *effects_of(found).effects]
    return percent(float(np.median([r.val_accuracy_std for r in rows if r.val_accuracy_std])))


def _level(found: Results[Any], factor: str, level: str) -> str:
    e = _effect(found, factor, level)
    return f"{100 * (e.delta or 0.0):+.2f} [{percent(e.delta_low)}, {percent(e.delta_high)}]"


FIGURES: Mapping[str, Callable[..., str]] = {
    "test": lambda found: _spread(
        effects_of(found).baseline.test_accuracy_mean, effects_of(found).baseline.test_accuracy_std
    ),
    "validation": lambda found: _spread(
        effects_of(found).baseline.val_accuracy_mean, effects_of(found).baseline.val_accuracy_std
    ),
    "parameters": lambda found: f"{effects_of(found).baseline.parameters or 0:,}",
    "seconds": lambda found: f"{effects_of(found).baseline.seconds or 0:,.0f}",
    "seeds": lambda found: str(effects_of(found).baseline.n),
    "trainings": lambda found: f"{len(finished(found.trials)):,}",
    "level": _level,  # FACTOR LEVEL
    "comparisons": lambda found: str(effects_of(found).family),
    "spread": lambda found: percent(effects_of(found).spread),
    "seed-spread": _seed_spread,
}
