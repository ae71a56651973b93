"""The search space: which values a parameter may take, and when it matters at all.

Pure data, checked against `TrainConfig`; Optuna's distributions are made when a trial is asked for.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Any

from trainer.config import TrainConfig
from trainer.errors import UserError, choose

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import BaseTrial

SAMPLERS = ("tpe", "random", "qmc", "grid", "gp")
PRUNERS = ("hyperband", "asha", "median", "wilcoxon", "none")
OBJECTIVES = ("val_accuracy", "parameters", "latency_ms", "seconds")
GP_TRIALS = 500  # a Gaussian process takes seconds per proposal beyond
DEFAULT_TRIALS = 100
MAX_STEPS = 100_000  # of a range
ROUNDING = 1e-6  # of a step: so near to one, a value is that step
MAX_POINTS = 100_001  # of a grid, counted no further
_SEARCH_KEYS = (
    "trials",
    "sampler",
    "pruner",
    "objectives",
    "space",
    "points",
    "epoch_budget",
    "sampler_seed",
)
_RANGE_KEYS = ("low", "high", "log", "step", "when")


@dataclass(frozen=True)
class Parameter:
    """One dimension: a list of levels, or a range `low` to `high` (whole numbers where `whole`).

    `when`: parameters that must have one of the given levels for this one to matter, e.g.
    `{"optimizer": ("sgd",)}` for the momentum. They come earlier in the space, or are fixed.
    """

    name: str
    levels: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None
    whole: bool = False
    when: tuple[tuple[str, tuple[Any, ...]], ...] = ()

    def matters(self, base: TrainConfig, params: Mapping[str, Any]) -> bool:
        """Whether the parameter matters, given those chosen so far."""
        return all(params.get(name, getattr(base, name)) in valid for name, valid in self.when)

    def distribution(self, *, stepped: bool = True) -> "BaseDistribution":
        """Return Optuna's form of it; without its steps, for values that lie between them."""
        from optuna.distributions import (
            CategoricalDistribution,
            FloatDistribution,
            IntDistribution,
        )

        if self.levels:
            return CategoricalDistribution(self.levels)
        low, high, step = self.low, self.last, self.step
        if not stepped:
            high, step = self.high, None
        if self.whole:
            return IntDistribution(int(low), int(high), log=self.log, step=int(step or 1))
        return FloatDistribution(low, high, log=self.log, step=step)

    @property
    def last(self) -> float:
        """The highest value of a range: where its steps end, at or below `high`."""
        steps = self.grid()
        return self.high if steps is None else float(steps[-1])

    def holds(self, value: Any) -> bool:
        """Whether the parameter can take a value. A baseline may lie between two steps."""
        if self.levels:
            return value in self.levels
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and self.low <= value <= self.high

    def nearest(self, value: Any) -> Any:
        """Return the value itself, or the step nearest to it, as the exact decimal."""
        if self.levels or self.step is None:
            return value
        steps = round((Decimal(repr(value)) - Decimal(repr(self.low))) / Decimal(repr(self.step)))
        return self._step(min(max(steps, 0), self._step_count - 1))

    def exact(self, value: Any) -> Any:
        """Return the value itself; of a step that was computed in binary, the exact decimal."""
        near = self.nearest(value)
        rounded = self.step is not None and abs(near - value) <= ROUNDING * self.step
        return near if rounded else value

    def default(self, base: TrainConfig) -> Any:
        """Return the baseline's value, or some value where the space does not hold that."""
        value = getattr(base, self.name)
        if self.holds(value):
            return self.nearest(value)
        return self.levels[0] if self.levels else self.low

    def grid(self) -> tuple[Any, ...] | None:
        """Return the levels, or the steps as exact decimals; None: a range without steps."""
        if self.levels:
            return self.levels
        if self.step is None:
            return None
        return tuple(map(self._step, range(self._step_count)))

    def values(self) -> Sequence[Any] | None:
        """Return every value there is, a whole number's without steps too; None: uncountable."""
        if self.whole and self.step is None:
            return range(int(self.low), int(self.high) + 1)
        return self.grid()

    @property
    def _step_count(self) -> int:
        low, high, step = (Decimal(repr(number)) for number in (self.low, self.high, self.step))
        return int((high - low) // step) + 1

    def _step(self, number: int) -> Any:
        # In decimals, as they are written: 0.1 + 2 * 0.1 is 0.3, as the baseline's.
        value = Decimal(repr(self.low)) + number * Decimal(repr(self.step))
        return int(value) if self.whole else float(value)


@dataclass(frozen=True)
class Search:
    """The `[search]` table of a plan."""

    trials: int
    space: tuple[Parameter, ...]
    sampler: str = "tpe"
    pruner: str = "hyperband"
    objectives: tuple[str, ...] = ("val_accuracy",)
    points: tuple[Mapping[str, Any], ...] = ()  # tried first, after the baseline
    epoch_budget: int | None = None  # no new trial once so many epochs are spent
    sampler_seed: int = 0
    exhaustive: bool = False  # whether its trials are all the points that there are
    given: Mapping[str, Any] = field(default_factory=dict)  # the table as it was written


def parse_search(table: Mapping[str, Any], base: TrainConfig, valid: Sequence[str]) -> Search:
    """Read the `[search]` table.

    Raises:
        UserError: a key is unknown or its value invalid; the message names the key.
    """
    for key in table:
        if key not in _SEARCH_KEYS:
            raise UserError(choose("search key", key, _SEARCH_KEYS))
    given = table.get("space")
    if not isinstance(given, Mapping) or not given:
        raise UserError("search.space: is missing; give at least one parameter, space.NAME = ...")
    space = tuple(parse(given, base, valid))
    for parameter in space:
        if parameter.matters(base, {}) and not parameter.holds(getattr(base, parameter.name)):
            raise UserError(
                f"search.space.{parameter.name}: does not hold the baseline's "
                f"{getattr(base, parameter.name)!r}; the baseline is always the first trial"
            )
    sampler = _choice(table, "sampler", "tpe", SAMPLERS)
    objectives = _objectives(table)
    several = len(objectives) > 1
    pruner = _choice(table, "pruner", "none" if several else "hyperband", PRUNERS)
    if several and pruner != "none":
        raise UserError(
            f"search.pruner = {pruner!r}: one number decides who is pruned; with several "
            "objectives it must be 'none'"
        )
    points = _points(table, space)
    wanted = _trials(table, sampler, space)
    count = _count(space, base, points, wanted)
    return Search(
        trials=min(wanted, count),
        space=space,
        sampler=sampler,
        pruner=pruner,
        objectives=objectives,
        points=points,
        exhaustive=count <= wanted,
        epoch_budget=_whole(table, "epoch_budget", None),
        sampler_seed=_whole(table, "sampler_seed", 0, least=0) or 0,
        given=dict(table),
    )


def _objectives(table: Mapping[str, Any]) -> tuple[str, ...]:
    objectives = table.get("objectives", ["val_accuracy"])
    if not isinstance(objectives, list) or objectives[:1] != ["val_accuracy"]:
        raise UserError(f"search.objectives = {objectives!r}: must be a list, val_accuracy first")
    for name in objectives:
        if name not in OBJECTIVES or objectives.count(name) > 1:
            raise UserError(choose("search.objectives", name, OBJECTIVES))
    return tuple(objectives)


def _trials(table: Mapping[str, Any], sampler: str, space: Sequence[Parameter]) -> int:
    trials = _whole(table, "trials", None)
    if sampler == "grid":
        for parameter in space:
            if parameter.grid() is None:
                raise UserError(
                    f"search.space.{parameter.name}: the grid sampler needs levels or a step"
                )
        return trials or MAX_POINTS
    if sampler == "gp" and (trials or 0) > GP_TRIALS:
        raise UserError(f"search.trials = {trials}: gp is for up to {GP_TRIALS} trials; use tpe")
    return trials or DEFAULT_TRIALS


def _count(
    space: Sequence[Parameter], base: TrainConfig, points: Sequence[Mapping[str, Any]], most: int
) -> int:
    """Count the different points of a search; more than `most` are counted no further."""
    if any(parameter.values() is None for parameter in space):
        return most + 1
    return sum(1 for _ in islice(every_point(space, base, points), most + 1))


def _points(table: Mapping[str, Any], space: Sequence[Parameter]) -> tuple[Mapping[str, Any], ...]:
    points = table.get("points", [])
    if not isinstance(points, list) or not all(isinstance(entry, Mapping) for entry in points):
        raise UserError(f"search.points = {points!r}: must be a list of tables")
    by_name = {parameter.name: parameter for parameter in space}
    for point in points:
        for name, value in point.items():
            if name not in by_name:
                raise UserError(choose("search.points", name, list(by_name)))
            if not by_name[name].holds(value):
                raise UserError(f"search.points: {name} = {value!r} lies outside its space")
    return tuple(points)


def _choice(table: Mapping[str, Any], key: str, default: str, valid: Sequence[str]) -> str:
    value = table.get(key, default)
    if value not in valid:
        raise UserError(choose(f"search.{key}", value, valid))
    return str(value)


def _whole(table: Mapping[str, Any], key: str, default: int | None, least: int = 1) -> int | None:
    value = table.get(key, default)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= 10**6:
        raise UserError(f"search.{key} = {value!r}: must be a whole number from {least} to 1000000")
    return value


def parse(table: Mapping[str, Any], base: TrainConfig, valid: Sequence[str]) -> list[Parameter]:
    """Read `space.NAME = [levels]` or `{low, high, log, step, when}`; `when` with `levels` too.

    Raises:
        UserError: a name or value is invalid; the message names the key.
    """
    space: list[Parameter] = []
    for name, given in table.items():
        if name not in valid:
            raise UserError(choose("search.space", name, valid))
        key = f"search.space.{name}"
        entry = {"levels": given} if isinstance(given, list) else given
        if not isinstance(entry, Mapping):
            raise UserError(f"{key} = {given!r}: must be a list of levels or {{ low, high, ... }}")
        valid_keys = ("levels", "when") if "levels" in entry else _RANGE_KEYS
        for option in entry:
            if option not in valid_keys:
                raise UserError(choose(f"{key} key", option, valid_keys))
        later = table.keys() - {previous.name for previous in space}
        when = _conditions(key, entry.get("when", {}), space, later, base)
        parameter = _levels if "levels" in entry else _range
        space.append(parameter(key, name, entry, base, when))
    return space


def _levels(
    key: str, name: str, entry: Mapping[str, Any], base: TrainConfig, when: Any
) -> Parameter:
    levels = entry["levels"]
    if not isinstance(levels, list) or not levels:
        raise UserError(f"{key}: needs a list of at least one level")
    checked = tuple(_value(key, name, level, base) for level in levels)
    if len(set(checked)) < len(checked):
        raise UserError(f"{key}: a level is listed twice")
    return Parameter(name, levels=checked, when=when)


def _range(
    key: str, name: str, entry: Mapping[str, Any], base: TrainConfig, when: Any
) -> Parameter:
    for bound in ("low", "high"):
        if bound not in entry:
            raise UserError(f"{key}: needs {bound}")
    low, high = (_value(f"{key}.{bound}", name, entry[bound], base) for bound in ("low", "high"))
    if isinstance(low, (bool, str)) or not low < high:
        raise UserError(f"{key}: needs numbers, low < high; got {low!r} to {high!r}")
    log, step = entry.get("log", False), entry.get("step")
    if not isinstance(log, bool):
        raise UserError(f"{key}.log = {log!r}: must be true or false")
    if log and low <= 0:
        raise UserError(f"{key}.low = {low!r}: must be above 0 for a logarithmic range")
    whole = isinstance(low, int)
    if step is not None:
        wrong = "must be a positive number, without log" if log else _step_fault(step, low, high)
        if wrong:
            raise UserError(f"{key}.step = {step!r}: {wrong}")
        step = int(step) if whole else float(step)
    return Parameter(name, low=low, high=high, log=log, step=step, whole=whole, when=when)


def _step_fault(step: Any, low: float, high: float) -> str | None:
    """Say what is wrong with the steps of a range, of whole numbers where `low` is one."""
    if isinstance(step, bool) or not isinstance(step, (int, float)) or not step > 0:
        return "must be a positive number, without log"
    width = Decimal(repr(high)) - Decimal(repr(low))  # in binary 0.21 - 0.2 is below 0.01
    if not Decimal(repr(step)) <= width:
        return f"must be at most {width:g}, from {low:g} to {high:g}"
    if isinstance(low, int) and step != int(step):
        return "must be a whole number, as the values are"
    if width / Decimal(repr(step)) > MAX_STEPS:
        return f"makes more than {MAX_STEPS} values from {low:g} to {high:g}"
    return None


def _value(key: str, name: str, value: Any, base: TrainConfig) -> Any:
    try:
        return getattr(TrainConfig.from_dict({**base.to_dict(), name: value}), name)
    except UserError as error:
        raise UserError(f"{key}: {error}") from error


def _conditions(
    key: str, table: Any, earlier: Sequence[Parameter], later: Collection[str], base: TrainConfig
) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    if not isinstance(table, Mapping):
        raise UserError(f"{key}.when = {table!r}: must be a table, {{ NAME = [levels] }}")
    by_name = {parameter.name: parameter for parameter in earlier}
    conditions = []
    for name, levels in table.items():
        if not hasattr(base, name):
            raise UserError(choose(f"{key}.when", name, sorted(by_name)))
        if name in later:
            raise UserError(
                f"{key}.when.{name}: comes later in the space; a condition is on what comes earlier"
            )
        if not isinstance(levels, list) or not levels:
            raise UserError(f"{key}.when.{name} = {levels!r}: must be a list of levels")
        valid = tuple(_value(f"{key}.when.{name}", name, level, base) for level in levels)
        for level in valid:
            if name in by_name and not by_name[name].holds(level):
                raise UserError(f"{key}.when.{name} = {level!r}: {_range_text(by_name[name])}")
        conditions.append((name, valid))
    return tuple(conditions)


def _range_text(parameter: Parameter) -> str:
    if parameter.levels:
        return f"choose from its levels {', '.join(map(str, parameter.levels))}"
    return f"lies outside its range from {parameter.low:g} to {parameter.high:g}"


def suggest(trial: "BaseTrial", space: Sequence[Parameter], base: TrainConfig) -> dict[str, Any]:
    """Ask Optuna for a point; return the parameters that matter there.

    The sampler proposes a value for every parameter, used or not: one joint space is sampled three
    times faster by TPE than the groups that conditions cut it into.
    """
    everything: dict[str, Any] = {}
    for parameter in space:
        if parameter.levels:
            value: Any = trial.suggest_categorical(parameter.name, list(parameter.levels))
        elif parameter.whole:
            low, high, step = int(parameter.low), int(parameter.last), int(parameter.step or 1)
            value = trial.suggest_int(parameter.name, low, high, step=step, log=parameter.log)
        else:
            value = trial.suggest_float(
                parameter.name,
                parameter.low,
                parameter.last,
                step=parameter.step,
                log=parameter.log,
            )
        everything[parameter.name] = parameter.nearest(value)
    return that_matter(everything, space, base)


def that_matter(
    point: Mapping[str, Any], space: Sequence[Parameter], base: TrainConfig
) -> dict[str, Any]:
    """Return a point's parameters that matter; the baseline's value where it has none."""
    params: dict[str, Any] = {}
    for parameter in space:
        if parameter.matters(base, params):
            params[parameter.name] = point.get(parameter.name, getattr(base, parameter.name))
    return params


def every_point(
    space: Sequence[Parameter], base: TrainConfig, points: Sequence[Mapping[str, Any]] = ()
) -> Iterator[dict[str, Any]]:
    """Yield each point of a space once, by the parameters that matter there: the baseline first.

    Then come the listed points, then every combination of values. The values must be countable.
    """
    told: set[frozenset[tuple[str, Any]]] = set()
    for given in ({}, *points):
        point = that_matter(given, space, base)
        if frozenset(point.items()) not in told:
            told.add(frozenset(point.items()))
            yield point
    for point in _combinations(space, base, {}):
        if frozenset(point.items()) not in told:
            yield point


def _combinations(
    space: Sequence[Parameter], base: TrainConfig, chosen: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield every combination of the values of the parameters that matter, each once."""
    if not space:
        yield dict(chosen)
        return
    first, rest = space[0], space[1:]
    if not first.matters(base, chosen):
        yield from _combinations(rest, base, chosen)
        return
    for value in first.values() or ():
        yield from _combinations(rest, base, {**chosen, first.name: value})
