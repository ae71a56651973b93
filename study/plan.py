"""`Plan`: what a study varies, around which baseline, how often; from TOML to cells.

A plan is data: it says which configs there are, never how they are run.
"""

import hashlib
import itertools
import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from study import catalog
from study.space import Search, parse_search
from trainer.config import DATASETS, FIELD_NAMES, TrainConfig
from trainer.errors import UserError, choose

DESIGNS = ("ablation", "factorial", "search")
MAX_CELLS = 100_000
MAX_LEVELS = 1000  # of a factor

# What the plan itself decides for all its trials, and so no factor may vary.
_PLAN_FIELDS = ("dataset", "subset", "epochs", "seed", "validation_fraction")
FACTOR_NAMES = tuple(name for name in FIELD_NAMES if name not in _PLAN_FIELDS)
_BASELINE_NAMES = (*FACTOR_NAMES, "validation_fraction")
_BUDGET_KEYS = ("seeds", "epochs", "subset")
_TABLES = ("baseline", "factors", "search")
_KEYS = ("name", "description", "design", "dataset", *_BUDGET_KEYS, *_TABLES)
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")

Level = bool | int | float | str | None


@dataclass(frozen=True)
class Variant:
    """One point of the design: the baseline, or what differs from it."""

    changes: tuple[tuple[str, Level], ...]

    @property
    def label(self) -> str:
        """`baseline`, or only what differs: `batchnorm=false pooling=avg`."""
        return " ".join(f"{k}={level_text(v)}" for k, v in self.changes) or "baseline"


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
    seeds: int = 5
    epochs: int = 10
    subset: int | None = None
    baseline: Mapping[str, Level] = field(default_factory=dict)
    factors: Mapping[str, Sequence[Level]] = field(default_factory=dict)
    search: Search | None = None

    def __post_init__(self) -> None:
        """Check every key, and that every variant is a valid config."""
        check_name("name", self.name)
        if self.design not in DESIGNS:
            raise UserError(choose("design", self.design, DESIGNS))
        _check_table("baseline", self.baseline, _BASELINE_NAMES)
        _check_table("factors", self.factors, FACTOR_NAMES)
        _check_whole("seeds", self.seeds, 10_000)
        for name, levels in self.factors.items():
            _check_levels(name, levels)
        self.base_config  # noqa: B018 # checked here, so that a plan in hand is a valid one
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
        count = self.variant_count * self.seeds
        if count > MAX_CELLS:
            raise UserError(
                f"factors: the design has {count} trials; at most {MAX_CELLS} are planned"
            )

    @cached_property
    def base_config(self) -> TrainConfig:
        """The baseline with seed 0."""
        budget = {"dataset": self.dataset, "subset": self.subset, "epochs": self.epochs}
        try:
            return TrainConfig.from_dict({**budget, **self.baseline})
        except UserError as error:
            key = str(error).split(" ")[0]
            raise UserError(f"{'' if key in budget else 'baseline.'}{error}") from error

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

    @property
    def variant_count(self) -> int:
        """Number of variants, without listing them; of a search: its candidates."""
        sizes = [len(levels) for levels in self.factors.values()]
        if self.search is not None:
            return self.search.trials
        if self.design == "factorial":
            product = 1
            for size in sizes:
                product *= size
            return product
        listed = sum(getattr(self.base_config, name) in own for name, own in self.factors.items())
        return 1 + sum(sizes) - listed

    @cached_property
    def variants(self) -> tuple[Variant, ...]:
        """Every variant: the baseline first in an ablation, in plan order. A search lists none."""
        if self.search is not None:
            return ()
        base = self.base_config.to_dict()
        if self.design == "factorial":
            combinations: Iterable[tuple[tuple[str, Level], ...]] = itertools.product(
                *([(name, level) for level in levels] for name, levels in self.factors.items())
            )
        else:
            single = [((n, level),) for n, levels in self.factors.items() for level in levels]
            combinations = [(), *single]
        variants = (
            # In the order of TrainConfig's fields, so that a plan's factors may be rearranged.
            Variant(tuple((n, own[n]) for n in FACTOR_NAMES if n in own and own[n] != base[n]))
            for own in map(dict, combinations)
        )
        return tuple(dict.fromkeys(variants))

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
        values = {key: getattr(self, key) for key in _KEYS if key not in _TABLES}
        return {
            **values,
            "baseline": {name: getattr(self.base_config, name) for name in _BASELINE_NAMES},
            "factors": {name: list(levels) for name, levels in self.factors.items()},
            **({"search": self._search_table(self.search)} if self.search else {}),
        }

    def _search_table(self, own: Search) -> dict[str, Any]:
        return {
            **own.given,
            "trials": own.trials,
            "sampler": own.sampler,
            "pruner": own.pruner,
            "objectives": list(own.objectives),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Plan":
        """Make a plan of a parsed TOML file or a stored plan.

        Raises:
            UserError: a key is unknown or its value invalid; the message names the key.
        """
        for key in values:
            if key not in _KEYS:
                raise UserError(choose("key", key, _KEYS))
        if "name" not in values:
            raise UserError("name: is missing; a plan needs one")
        for key in _TABLES:
            if values.get(key) is not None and not isinstance(values[key], Mapping):
                raise UserError(f"{key} = {values[key]!r}: must be a table, [{key}]")
        for key in ("name", "description", "design", "dataset"):
            if not isinstance(values.get(key, ""), str):
                raise UserError(f"{key} = {values[key]!r}: must be a string")
        table = values.get("search")
        if table is None:
            return cls(**values)
        rest = {key: value for key, value in values.items() if key not in ("search", "design")}
        base = cls(**rest).base_config
        search = parse_search(table, base, FACTOR_NAMES)
        return cls(**{**values, "search": search})

    def override(self, **changes: Any) -> "Plan":
        """Return the plan with the keys changed that are not None, checked again.

        Raises:
            UserError: a value is invalid, or `trials` is given for a design that counts cells.
        """
        given = {key: value for key, value in changes.items() if value is not None}
        trials = given.pop("trials", None)
        values = {**self.to_dict(), **given}
        if trials is not None:
            if self.search is None:
                raise UserError(f"trials = {trials}: is for searches; {self.design} has cells")
            values["search"] = {**values["search"], "trials": trials}
        return Plan.from_dict(values)

    def at_least(self, stored: Mapping[str, Any] | None) -> "Plan":
        """Return the plan with the seeds and trials of an earlier one, where those are more."""
        if not stored:
            return self
        before = Plan.from_dict(stored)
        trials = (
            max(self.search.trials, before.search.trials) if self.search and before.search else None
        )
        return self.override(seeds=max(self.seeds, before.seeds), trials=trials)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What must not change while a study goes on: all that its results depend on.

        More seeds are more replicates of the same study, so `seeds` is not in it.
        """
        config = self.base_config.to_dict()
        del config["seed"]
        return {
            "design": self.design,
            **{f"baseline.{name}": value for name, value in config.items()},
            **{f"factors.{name}": list(levels) for name, levels in self.factors.items()},
            **self._search_identity(),
        }

    def _search_identity(self) -> dict[str, Any]:
        # More trials, another sampler or pruner go on with the same study.
        if self.search is None:
            return {}
        space = {f"search.space.{name}": own for name, own in self.search.given["space"].items()}
        return {"search.objectives": list(self.search.objectives), **space}

    @property
    def hash(self) -> str:
        """SHA-256 of the identity."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()

    @property
    def conditions(self) -> dict[str, Any]:
        """The part of the identity that the command line sets: data set, subset, epochs."""
        return {"dataset": self.dataset, "subset": self.subset, "epochs": self.epochs}


def load_plan(source: str, *, dataset: str | None = None) -> Plan:
    """Read a plan from the catalogue or a `.toml` file, for its data set or another.

    A plan may hold tables `[datasets.NAME]` with another budget, baseline values and levels for
    that data set; they are applied here.

    Raises:
        UserError: no such plan, or it is malformed; the message names file and key.
    """
    if source in catalog.names():
        text, where = catalog.text(source), f"catalogue plan {source}"
    else:
        text, where = _read(Path(source)), source
    try:
        values = tomllib.loads(text)
        repr(values)  # a number of thousands of digits could be in no message
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not TOML: {error}") from error
    if dataset is not None and dataset not in DATASETS:
        raise UserError(choose("dataset", dataset, DATASETS))
    try:
        return Plan.from_dict(_for_dataset(values, dataset))
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"plan {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"plan {path}: not TOML: not UTF-8 text") from error


def _for_dataset(values: dict[str, Any], dataset: str | None) -> dict[str, Any]:
    plan = {key: value for key, value in values.items() if key != "datasets"}
    if dataset is not None:
        plan["dataset"] = dataset
    tables = values.get("datasets", {})
    if not isinstance(tables, dict):
        raise UserError("datasets: must hold tables, [datasets.NAME]")
    for name, table in tables.items():
        if name not in DATASETS:
            raise UserError(choose("datasets", name, DATASETS))
        valid = (*_BUDGET_KEYS, *_TABLES)
        if not isinstance(table, dict):
            raise UserError(f"datasets.{name}: must be a table, [datasets.{name}]")
        for key in table:
            if key not in valid:
                raise UserError(choose(f"datasets.{name} key", key, valid))
    chosen = plan.get("dataset", Plan.dataset)
    own = tables.get(chosen, {}) if isinstance(chosen, str) else {}
    merged = {**plan, **own}
    for key in _TABLES:
        if key in plan and key in own:
            merged[key] = _overlaid(plan[key], own[key])
    return merged


def _overlaid(table: Any, changes: Any) -> Any:
    """Lay one table over another, at every depth."""
    if not isinstance(table, dict) or not isinstance(changes, dict):
        return changes
    return {
        **table,
        **{
            key: _overlaid(table.get(key), own) if key in table else own
            for key, own in changes.items()
        },
    }


def check_name(what: str, name: str) -> None:
    """Check a study's name: it is part of paths and pages.

    Raises:
        UserError: the name is not made of letters, digits and `._/-`, or could leave its folder.
    """
    if not _NAME.fullmatch(name) or ".." in name or len(name) > 200:
        raise UserError(
            f"{what} = {name!r}: use letters, digits, '_', '-', '.' and '/', "
            "no leading dot, no '..', at most 200 characters"
        )


def level_text(level: Level) -> str:
    """Write a level as TOML would: true, 0.001, avg."""
    if isinstance(level, bool):
        return "true" if level else "false"
    # Every digit, unlike "%g": two levels never have the same text.
    return repr(level).removesuffix(".0") if isinstance(level, float) else str(level)


def _check_table(key: str, table: Mapping[str, Any], valid: Sequence[str]) -> None:
    for name in table:
        if name not in valid:
            raise UserError(choose(key, name, valid))


def _check_whole(key: str, value: Any, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise UserError(f"{key} = {value!r}: must be a whole number from 1 to {most}")


def _check_levels(name: str, levels: Any) -> None:
    if not isinstance(levels, (list, tuple)):
        raise UserError(f"factors.{name} = {levels!r}: must be a list of levels")
    if not 0 < len(levels) <= MAX_LEVELS:
        raise UserError(f"factors.{name}: has {len(levels)} levels; give 1 to {MAX_LEVELS}")
    for position, level in enumerate(levels):
        if any(
            level == other and isinstance(level, bool) == isinstance(other, bool)
            for other in levels[:position]
        ):
            raise UserError(f"factors.{name}: level {level!r} is listed twice")
