"""Settings that a training does not read: variants that differ in nothing else are one training.

Momentum under Adam, the patience of no early stopping, the steps of a one-cycle schedule: each
level would be trained, under a name of its own, to exactly the same network. A plan may hold such
settings, as its fields belong together; whoever runs it is told.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from fmnist_common.text import level_text
from study.plans.plan import Plan
from study.plans.space import Parameter, that_matter
from study.plans.variants import Level
from trainer.config import (
    ARCHITECTURE_FIELDS,
    FIELD_NAMES,
    MAX_DEPTH,
    TrainConfig,
    network_fields,
    pooling_steps,
)

_NETWORK_FIELDS = frozenset().union(*ARCHITECTURE_FIELDS.values())
_DEFAULTS = TrainConfig()
# What decides whether others are read. Of them only parameters with levels matter to a search.
_GOVERNING = ("architecture", "batchnorm", "residual", "optimizer", "schedule", "early_stopping")


@dataclass(frozen=True)
class UnreadFactor:
    """A field whose levels train one network.

    `levels`: those that do, at least two; of a search's parameter its levels, or its range's ends.
    `variants`: labels of those that train what the first of them trains; of a search none.
    """

    factor: str  # a field of TrainConfig
    levels: tuple[Level, ...]
    variants: tuple[
        str, ...
    ]  # labels of those that train what the first of them trains; of a search none
    reason: str  # "only the optimizer sgd reads it"

    @property
    def message(self) -> str:
        """Say it in one line."""
        if not self.variants:
            return f"{self.factor}: nothing reads it here ({self.reason}): searching it is in vain"
        first, *others = self.variants
        levels = ", ".join(map(level_text, self.levels))
        verb = "trains" if len(others) == 1 else "train"
        return (
            f"{self.factor} = {levels}: makes no difference here ({self.reason}): "
            f"{_some(others)} {verb} exactly what {first} trains"
        )


def unread_fields(config: TrainConfig) -> Mapping[str, str]:
    """Return the fields that a training does not read, each with who would."""
    if config.is_foreign:
        return {}  # what it reads is not ours to know
    unread = {
        name: _readers(name)
        for name in FIELD_NAMES
        if name in _NETWORK_FIELDS - network_fields(config.architecture)
    }
    if not config.has_foreign_network:
        unread |= dict.fromkeys(
            (f"model_options.{name}" for name in config.model_options),
            "only a network of yours reads it",
        )
    if config.architecture == "convnet":
        unread |= _unread_by_convnet(config)
    if config.optimizer != "sgd":
        unread |= dict.fromkeys(("momentum", "nesterov"), "only the optimizer sgd reads it")
    if config.schedule != "step":
        unread |= dict.fromkeys(("step_epochs", "step_factor"), "only the schedule step reads it")
    elif config.step_epochs >= config.epochs:
        unread["step_factor"] = f"no step comes within {config.epochs} epochs"
    if config.schedule != "exponential":
        unread["exponential_factor"] = "only the schedule exponential reads it"
    if config.early_stopping == "none":
        unread["patience"] = "only early stopping reads it"
    return unread


def _unread_by_convnet(config: TrainConfig) -> Mapping[str, str]:
    unread = {}
    if config.batchnorm:
        unread["conv_bias"] = "there is no bias under a batch norm"
    if not config.residual:
        unread["block"] = "only residual blocks read it"
    if not pooling_steps(config):
        unread["pooling"] = f"pool_steps = {config.pool_steps} is beyond the depth"
    return unread


def as_read(config: TrainConfig) -> TrainConfig:
    """Return the config with one value for all that would train the same network.

    Two configs for which this is equal are the same training, whatever they are called.
    """
    epochs = config.epochs
    if config.is_foreign:
        return config
    changes: dict[str, Any] = {
        name: getattr(_DEFAULTS, name, 0) for name in unread_fields(config)
    }  # an option has no default
    if config.schedule == "step":
        changes["step_epochs"] = min(config.step_epochs, epochs)
    if config.early_stopping != "none":
        changes["patience"] = min(config.patience, epochs)
    if config.architecture == "convnet":
        steps = pooling_steps(config) or (MAX_DEPTH,)
        changes["pool_steps"] = "+".join(map(str, steps))
    if config.momentum == 0:
        changes["nesterov"] = False
    if config.weight_decay == 0:
        changes["norm_bias_decay"] = True
    if config.optimizer == "adamw" and config.weight_decay == 0:
        changes["optimizer"] = "adam"  # they differ in how weights decay, and in nothing else
    return config.replace(**changes)


def unread_factors(plan: Plan) -> tuple[UnreadFactor, ...]:
    """Find the fields whose levels make no difference to what is trained.

    Of a design every set of variants that would train the same network is named, of a search only
    parameters that are read at none of its points.
    """
    if plan.search is not None:
        return tuple(_of_search(plan.base_config, plan.search.space))
    return tuple(_of_design(plan))


def _of_design(plan: Plan) -> Iterator[UnreadFactor]:
    groups: dict[TrainConfig, list[tuple[str, TrainConfig]]] = {}
    for variant in plan.variants:
        config = plan.base_config.replace(**dict(variant.changes))
        groups.setdefault(as_read(config), []).append((variant.label, config))
    told: set[tuple[str, frozenset[Level]]] = set()  # once for all the other factors' levels
    for same in groups.values():
        for name in plan.varied:
            values = [getattr(config, name) for _, config in same]
            levels = tuple(dict.fromkeys(values))
            if len(levels) < 2 or (name, frozenset(levels)) in told:
                continue
            told.add((name, frozenset(levels)))
            labels = [label for label, config in same if _differs_only_in(name, config, same)]
            yield UnreadFactor(name, levels, tuple(labels), _reason(name, same[0][1]))


def _differs_only_in(
    name: str, config: TrainConfig, same: Sequence[tuple[str, TrainConfig]]
) -> bool:
    """Whether a config of equal ones is the first one but for a field."""
    first = same[0][1]
    return config.replace(**{name: getattr(first, name)}) == first


def _of_search(base: TrainConfig, space: Sequence[Parameter]) -> Iterator[UnreadFactor]:
    points = list(_deciding_points(base, space))
    for parameter in space:
        here = [point for point in points if parameter.matters(base, point)]
        reasons = [unread_fields(base.replace(**point)).get(parameter.name) for point in here]
        if None not in reasons:
            levels = parameter.levels or (parameter.low, parameter.high)
            reason = reasons[0] if reasons else "its condition never holds"
            yield UnreadFactor(parameter.name, tuple(levels), (), str(reason))


def _deciding_points(base: TrainConfig, space: Sequence[Parameter]) -> Iterator[dict[str, Level]]:
    """Combine the values of the parameters that decide whether others matter or are read."""
    conditions: dict[str, set[Level]] = {}
    for parameter in space:
        for name, levels in parameter.when:
            conditions.setdefault(name, set()).update(levels)
    deciding = [p for p in space if p.name in conditions or (p.name in _GOVERNING and p.levels)]
    values = (p.levels or (p.low, *filter(p.holds, conditions[p.name])) for p in deciding)
    for combination in product(*values):
        point = dict(zip((p.name for p in deciding), combination, strict=True))
        yield that_matter(point, deciding, base)


def _readers(name: str) -> str:
    names = [a for a, fields in ARCHITECTURE_FIELDS.items() if name in fields]
    return f"only the architectures {', '.join(names)} read it"


def _reason(name: str, config: TrainConfig) -> str:
    others = {
        "optimizer": "adam and adamw differ only in how weights decay, and weight_decay is 0",
        "pool_steps": f"they pool at the same of its {config.depth} steps",
        "patience": f"no training of {config.epochs} epochs waits so long",
        "nesterov": "momentum is 0",
        "norm_bias_decay": "weight_decay is 0",
        "step_epochs": f"no step comes within {config.epochs} epochs",
    }
    return unread_fields(config).get(name) or others.get(name, "nothing reads it")


def _some(labels: Sequence[str], most: int = 3) -> str:
    more = len(labels) - most
    return ", ".join(labels[:most]) + (f" and {more} more" if more > 0 else "")
