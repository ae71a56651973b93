"""`Plan`: what a study varies, around which baseline, how often; from TOML to cells.

A plan is data: it says which configs there are, never how they are run.
"""

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from study.plans import plan_file
from study.plans.checks import check_levels, check_name, check_negligible, check_table, check_whole
from study.plans.reported import Figures, parse_figures
from study.plans.space import Search, parse_search
from study.plans.variants import (
    BASELINE,
    VARIANT_FIELDS,
    Level,
    Row,
    Variant,
    check_is_read,
    check_options,
    check_rows,
    factor_names,
    parse_rows,
    row_of,
    variant,
)
from trainer.config import TrainConfig, is_option
from trainer.datasets import dataset_fault, wherever
from trainer.errors import UserError, choose

__all__ = [
    "BASELINE",
    "DESIGNS",
    "Cell",
    "Level",
    "Plan",
    "Row",
    "Variant",
    "check_name",
    "load_plan",
]

DESIGNS = ("ablation", "factorial", "search")
MAX_CELLS = 100_000
MAX_SEEDS = 20  # of a study with as many seeds as it takes, if it does not say

_FIXED = ("validation_fraction", "trainer", "command")
_BASELINE_NAMES = tuple(name for name in (*VARIANT_FIELDS, *_FIXED) if name != "epochs")
_WORDS = ("name", "description", "design", "dataset")
_TABLES, _FIGURES = plan_file.TABLES, plan_file.FIGURES
_KEYS = (
    *(*_WORDS, *plan_file.BUDGET, *plan_file.SURENESS, *plan_file.YOURS),
    *(*_TABLES, "variants", *_FIGURES),
)


@dataclass(frozen=True)
class Cell:
    """One trial to be run: a variant with one replicate seed."""

    variant: Variant
    seed: int


@dataclass(frozen=True)
class Plan:
    """A validated plan.

    Raises:
        UserError: a key has an invalid value; the message names the key.
    """

    name: str
    design: str = "ablation"
    description: str = ""
    dataset: str = "fashion-mnist"
    seeds: int = 5  # of every variant
    max_seeds: int | None = None  # of one that stays undecided; None: it gets no more either
    negligible: float | None = None  # a difference that would not matter, in points of accuracy
    epochs: int = 10
    subset: int | None = None
    baseline: Mapping[str, Level] = field(default_factory=dict)
    factors: Mapping[str, Sequence[Level]] = field(default_factory=dict)
    search: Search | None = None
    listed: Sequence[Row] = ()  # [[variants]], of an ablation
    figures: Figures = field(default_factory=Figures)
    folder: Path | None = field(default=None, compare=False)  # of the file, for code beside it

    def __post_init__(self) -> None:
        """Check every key, and that every variant is a valid config."""
        check_name("name", self.name)
        if self.design not in DESIGNS:
            raise UserError(choose("design", self.design, DESIGNS))
        check_table("factors", self.factors, factor_names(self.base_config))
        check_whole("seeds", self.seeds, 10_000)
        self._check_sureness()
        for name, levels in self.factors.items():
            check_levels(name, levels)
        checked = {
            name: [self._level(name, level) for level in levels]
            for name, levels in self.factors.items()
        }
        object.__setattr__(self, "factors", checked)
        if (self.design == "search") != (self.search is not None):
            raise UserError(
                f"design = {self.design!r}: a table [search] belongs to design = 'search' only"
            )
        if self.search is not None and self.factors:
            raise UserError("factors: a search has none; its parameters are in [search] space.NAME")
        if self.listed and self.design != "ablation":
            raise UserError(f"variants: belong to design = 'ablation' only, not {self.design!r}")
        count = self.variant_count * (self.max_seeds or self.seeds)
        if count > MAX_CELLS:
            raise UserError(
                f"factors: the design has {count} trials; at most {MAX_CELLS} are planned"
            )
        self._check_fields_are_read()
        if self.listed:
            taken = {name: self.levels(name) for name in self.factors}
            check_rows(self.listed, taken, frozenset(self.variants))

    def _check_sureness(self) -> None:
        """Check when the study has seen enough."""
        if self.max_seeds is not None:
            check_whole("max_seeds", self.max_seeds, 1000)
            if self.design != "ablation":
                raise UserError(
                    f"seeds = {plan_file.ADAPTIVE!r}: is for design = 'ablation', which compares "
                    f"levels with a baseline; not {self.design!r}"
                )
            if self.max_seeds < max(plan_file.FIRST_SEEDS, self.seeds):
                least = max(plan_file.FIRST_SEEDS, self.seeds)
                raise UserError(f"max_seeds = {self.max_seeds}: must be at least {least}")
        if self.negligible is not None and self.design == "search":
            raise UserError(f"negligible = {self.negligible!r}: a search compares no levels")
        check_negligible(self.negligible)

    def _check_fields_are_read(self) -> None:
        """Refuse what would train the same network under two names."""
        if self.base_config.is_foreign:
            return  # what it reads is not ours to know
        architectures = [self.base_config.architecture]
        tried: Mapping[str, Sequence[Level]] = self.factors
        if self.search is not None:
            tried = {parameter.name: parameter.levels for parameter in self.search.space}
        if self.design != "ablation":
            architectures += map(str, tried.get("architecture", ()))
        check_options(self.base_config, architectures)
        for name in tried:
            check_is_read(
                f"{'search.space' if self.search else 'factors'}.{name}", name, architectures
            )
        for number, row in enumerate(self.listed, 1):
            changes = dict(row.variant.changes)
            architecture = str(changes.get("architecture", self.base_config.architecture))
            for name in changes:
                check_is_read(f"variants.{number}.changes.{name}", name, [architecture])

    @cached_property
    def base_config(self) -> TrainConfig:
        """The baseline with seed 0."""
        return _base_config(self.dataset, self.subset, self.epochs, self.baseline)

    def _level(self, factor: str, level: Level) -> Level:
        try:
            config = TrainConfig.from_dict({**self.base_config.to_dict(), factor: level})
        except UserError as error:
            raise UserError(f"factors.{error}") from error
        checked: Level = getattr(config, factor)
        return checked

    def config_of(self, cell: Cell) -> TrainConfig:
        """Return the config of a cell."""
        return self.base_config.replace(seed=cell.seed, **dict(cell.variant.changes))

    def levels(self, factor: str) -> tuple[Level, ...]:
        """Return a factor's levels, the baseline's first where the plan does not list it."""
        base, levels = getattr(self.base_config, factor), self.factors[factor]
        return tuple(levels) if base in levels else (base, *levels)

    @cached_property
    def varied(self) -> Mapping[str, tuple[Level, ...]]:
        """Every field that differs between variants, with its values: factors first."""
        varied = {name: list(self.levels(name)) for name in self.factors}
        for row in self.listed:
            for name, value in row.variant.changes:
                values = varied.setdefault(name, [getattr(self.base_config, name)])
                if value not in values:
                    values.append(value)
        return {name: tuple(values) for name, values in varied.items()}

    @property
    def tables(self) -> Mapping[str, tuple[Level, ...]]:
        """Return what the study compares: each factor and each listed one, with its levels."""
        tables = {name: self.levels(name) for name in self.factors}
        for row in self.listed:
            factor = str(row.factor)
            tables[factor] = (*tables.get(factor, ()), row.level)
        return tables

    @property
    def variant_count(self) -> int:
        """Number of variants, a factorial's without listing them; of a search: its candidates."""
        if self.search is not None:
            return self.search.trials
        if self.design == "factorial":
            product = 1
            for levels in self.factors.values():
                product *= len(levels)
            return product
        return len(self.variants)

    @cached_property
    def _designed(self) -> tuple[Variant, ...]:
        """Variants that follow from the factors: the baseline first in an ablation."""
        if self.design == "factorial":
            combinations: Iterable[tuple[tuple[str, Level], ...]] = itertools.product(
                *([(name, level) for level in levels] for name, levels in self.factors.items())
            )
        else:
            single = [((n, level),) for n, levels in self.factors.items() for level in levels]
            combinations = [(), *single]
        variants = (variant(self.base_config, dict(cell)) for cell in combinations)
        return tuple(dict.fromkeys(variants))

    @cached_property
    def variants(self) -> tuple[Variant, ...]:
        """Every variant, each once: those of the factors, then the listed. A search has none."""
        if self.search is not None:
            return ()
        return tuple(dict.fromkeys([*self._designed, *(row.variant for row in self.listed)]))

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """The rows of the study's tables, where a variant may stand in several."""
        if self.search is not None:
            return ()
        return (*map(row_of, self._designed), *self.listed)

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Every trial, seed by seed, so that an unfinished study still compares all variants."""
        return tuple(Cell(v, seed) for seed in range(self.seeds) for v in self.variants)

    @property
    def trial_count(self) -> int:
        """Number of planned trials; of a search, its replicates not counted."""
        return self.search.trials if self.search else len(self.cells)

    def to_dict(self) -> dict[str, Any]:
        """Return the plan JSON-ready, its baseline in full; `Plan.from_dict` reads it back."""
        values = {key: getattr(self, key) for key in (*_WORDS, *plan_file.BUDGET)}
        sureness = {key: getattr(self, key) for key in plan_file.SURENESS}
        tried = [*self.varied, *(p.name for p in (self.search.space if self.search else ()))]
        return {
            **values,
            **{key: value for key, value in sureness.items() if value is not None},
            "baseline": {
                name: value
                for name, value in self.base_config.to_dict(also=tried).items()
                if name in _BASELINE_NAMES or is_option(name)
            },
            "factors": {name: list(levels) for name, levels in self.factors.items()},
            **({"search": self._search_table(self.search)} if self.search else {}),
            **({"variants": [row.to_dict() for row in self.listed]} if self.listed else {}),
            **self.figures.to_dict(),
        }

    def _search_table(self, search: Search) -> dict[str, Any]:
        return {
            **search.given,
            "trials": search.trials,
            "sampler": search.sampler,
            "pruner": search.pruner,
            "objectives": list(search.objectives),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Plan":
        """Make a plan of a parsed TOML file or a stored plan.

        Raises:
            UserError: a key is unknown or its value invalid; the message names the key.
        """
        if "imported" in values:
            raise UserError(f"study {values.get('name')!r}: was imported; it has nothing to run")
        for key in values:
            if key not in _KEYS:
                raise UserError(choose("key", key, _KEYS))
        if "name" not in values:
            raise UserError("name: is missing; a plan needs one")
        values = plan_file.unfolded(values)
        for key in (*_TABLES, "source"):
            if not isinstance(values.get(key, {}), Mapping):
                raise UserError(f"{key} = {values[key]!r}: must be a table, [{key}]")
        for key in _WORDS:
            if not isinstance(values.get(key, ""), str):
                raise UserError(f"{key} = {values[key]!r}: must be a string")
        apart = ("search", "variants", *_FIGURES)
        plain = {key: value for key, value in values.items() if key not in apart}
        if "max_seeds" in plain:
            plain.setdefault("seeds", plan_file.ADAPTIVE)
        if plain.get("seeds") == plan_file.ADAPTIVE:
            plain |= {
                "seeds": plan_file.FIRST_SEEDS,
                "max_seeds": plain.get("max_seeds", MAX_SEEDS),
            }
        budget = {key: plain.get(key, getattr(cls, key)) for key in ("dataset", "subset", "epochs")}
        base = _base_config(baseline=plain.get("baseline", {}), **budget)
        parsed: dict[str, Any] = {"listed": parse_rows(values.get("variants", ()), base)}
        if "search" in values:
            parsed["search"] = parse_search(values["search"], base, factor_names(base))
        plan = cls(**plain, **parsed)
        if not values.keys() & set(_FIGURES):
            return plan
        return replace(plan, figures=parse_figures(values, base, plan.rows, plan.tables))

    def override(self, **changes: Any) -> "Plan":
        """Return the plan with the keys changed that are not None, checked again.

        Raises:
            UserError: a value is invalid, or `trials` is given for a design that counts cells.
        """
        changed = plan_file.overridden(self.to_dict(), self.dataset, changes)
        return replace(Plan.from_dict(changed), folder=self.folder)

    def as_sure_as(self, stored: Mapping[str, Any] | None) -> "Plan":
        """Return the plan with an earlier one's margin of what is negligible, if it has none."""
        earlier = stored.get("negligible") if stored else None
        if self.negligible is not None or earlier is None:
            return self
        return self.override(negligible=earlier)

    def at_least(self, stored: Mapping[str, Any] | None) -> "Plan":
        """Return the plan with the seeds and trials of an earlier one, where those are more."""
        if not stored:
            return self
        before = Plan.from_dict(stored)
        trials = (
            max(self.search.trials, before.search.trials) if self.search and before.search else None
        )
        most = self.max_seeds or before.max_seeds  # what is asked for now is what holds
        seeds = max(self.seeds, before.seeds)
        return self.override(
            seeds=seeds,
            trials=trials,
            max_seeds=most and max(most, seeds),
            negligible=self.negligible or before.negligible,
        )

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What must not change while a study goes on: all that its results depend on.

        More seeds are more replicates of the same study, so `seeds` is not in it.
        """
        config = {**self.base_config.to_dict(), "dataset": wherever(self.dataset)}
        del config["seed"]
        listed = {row.variant for row in self.listed} - set(self._designed) if self.listed else ()
        return {
            "design": self.design,
            **{f"baseline.{name}": value for name, value in config.items()},
            **{f"factors.{name}": list(levels) for name, levels in self.factors.items()},
            # The rows' names and what they are compared with do not change results.
            **{f"variants.{variant.label}": "listed" for variant in listed},
            **self._search_identity(),
        }

    def _search_identity(self) -> dict[str, Any]:
        # More trials, another sampler or pruner go on with the same study.
        if self.search is None:
            return {}
        space = {
            f"search.space.{name}": entry for name, entry in self.search.given["space"].items()
        }
        return {"search.objectives": list(self.search.objectives), **space}

    @property
    def epoch_counts(self) -> tuple[int, ...]:
        """The numbers of epochs that variants train for, ascending: mostly one."""
        row_epochs = [dict(row.variant.changes).get("epochs") for row in self.listed]
        return tuple(
            sorted({self.epochs, *(epochs for epochs in row_epochs if isinstance(epochs, int))})
        )

    @property
    def hash(self) -> str:
        """SHA-256 of the identity."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()

    @property
    def conditions(self) -> dict[str, Any]:
        """The part of the identity that the command line sets: data set, subset, epochs."""
        dataset = wherever(self.dataset)
        return {"dataset": dataset, "subset": self.subset, "epochs": self.epoch_counts}


def load_plan(source: str, *, dataset: str | None = None, **changes: Any) -> Plan:
    """Read a plan from the catalogue or a `.toml` file, for its data set or another.

    Args:
        source: its name or path.
        dataset: None: the plan's own.
        changes: of keys, made before the plan is checked; None: as it is written.

    Raises:
        UserError: no such plan, or it is malformed; the message names file and key.
    """
    values, where = plan_file.read(source)
    try:
        values = plan_file.unfolded(values)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    if dataset and not plan_file.is_foreign(values) and (wrong := dataset_fault(dataset)):
        raise UserError(f"dataset = {dataset!r}: {wrong}")
    try:
        written = plan_file.for_dataset(values, dataset, Plan.dataset)
        place = plan_file.folder(source)
        if all(value is None for value in changes.values()):
            return replace(Plan.from_dict(written), folder=place)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    try:
        plan = Plan.from_dict(plan_file.overridden(written, Plan.dataset, changes))
        return replace(plan, folder=place)
    except UserError:
        load_plan(source, dataset=dataset)  # where the file is wrong itself, that is said
        raise


def _base_config(
    dataset: Any, subset: Any, epochs: Any, baseline: Mapping[str, Any]
) -> TrainConfig:
    fields = {name: level for name, level in baseline.items() if not is_option(name)}
    check_table("baseline", fields, _BASELINE_NAMES)
    budget = {"dataset": dataset, "subset": subset, "epochs": epochs}
    try:
        return TrainConfig.from_dict({**budget, **baseline})
    except UserError as error:
        key = str(error).split(" ")[0]
        raise UserError(f"{'' if key in budget else 'baseline.'}{error}") from error
