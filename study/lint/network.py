"""What networks are fed, and what they are made of."""

import re
from collections.abc import Callable, Iterator, Mapping

from fmnist_common.text import level_text
from study.lint.context import Context
from study.lint.finding import Finding
from study.lint.leads import mean
from study.plans.names import field_of, squeeze
from study.plans.plan import Level
from trainer.config import biased_under_batchnorm
from trainer.datasets import DATASETS, DataSet

NEAR = 0.05  # relative: a constant that was rounded
_NUMBER = re.compile(r"(?<![\w.])(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
# What a column may be called that holds the deviation of pixels, not of noise, weights or results.
_STD = re.compile(
    r"((data(set)?|image|input|pixel|train|normali[sz](e|ation)|norm)s?)?"
    r"(std|stddev|standarddeviation)"
)


def _variance_as_std(context: Context) -> Iterator[Finding]:
    named = _normalizations(context)
    pairs = [(name, level) for name, levels in named.items() for level in levels]
    for dataset, facts in _possible_facts(context).items():
        std, variance = facts.std, facts.std**2
        right = any(level == "dataset" or _divides_by(std, name, level) for name, level in pairs)
        for name, level in pairs:
            if not _divides_by(variance, name, level):
                continue
            if context.facts is None and not _subtracts(facts.mean, name, level):
                continue
            baseline = context.baseline.get(name) == level
            yield Finding(
                "variance-as-std",
                "error" if baseline else "note" if right else "warning",
                f"baseline.{name}" if baseline else name,
                f"{name} = {level_text(level)}{', the baseline,' if baseline else ''} divides "
                f"pixels by the variance of {dataset} ({variance:.4f}), whose standard deviation "
                f"is {std:.4f}. Inputs come out {1 / std:.1f} times as large as meant; write "
                f"{facts.mean:.4g}/{std:.4g}.",
            )


def _possible_facts(context: Context) -> Mapping[str, DataSet]:
    """Return what is known of the data set; of one that nobody names, it may be any."""
    dataset = context.plan.get("dataset")
    if context.facts is not None:
        return {str(dataset): context.facts}
    return DATASETS if dataset is None else {}


def _normalizations(context: Context) -> dict[str, list[Level]]:
    """Return the settings that are called after a normalisation, with the levels that occur."""
    places = [context.baseline, *(dict(row.variant.changes) for row in context.rows)]
    places += [{name: level} for name, levels in context.factors.items() for level in levels]
    if context.ours is not None and context.ours.search is not None:
        space = context.ours.search.space
        places += [{parameter.name: level} for parameter in space for level in parameter.levels]
    levels_of: dict[str, list[Level]] = {}
    for place in places:
        for name, level in place.items():
            named = field_of(name) == "normalization" or _is_std(name)
            if named and level not in levels_of.setdefault(name, []):
                levels_of[name].append(level)
    return levels_of


def _is_std(name: str) -> bool:
    """Whether a column is called after the standard deviation of pixels."""
    return _STD.fullmatch(squeeze(name.rpartition(".")[2])) is not None


def _constants(name: str, level: Level) -> tuple[float | None, float] | None:
    """Return the mean and the standard deviation that a level normalises with, as far as it tells.

    Texts may have any form: `0.286/0.353`, `(0.2860,), (0.3530,)`, `Normalize([0.286], [0.353])`;
    of several channels, the means come first.
    """
    if isinstance(level, bool) or level is None:
        return None
    is_std = _is_std(name)
    if isinstance(level, float | int):
        return (None, float(level)) if is_std else None
    numbers = [float(number) for number in _NUMBER.findall(level)]
    half = len(numbers) // 2
    if is_std and numbers:
        return None, mean(numbers)
    if not numbers or len(numbers) % 2:
        return None
    return mean(numbers[:half]), mean(numbers[half:])


def _divides_by(value: float, name: str, level: Level) -> bool:
    constants = _constants(name, level)
    return constants is not None and abs(constants[1] - value) < NEAR * value


def _subtracts(value: float, name: str, level: Level) -> bool:
    constants = _constants(name, level)
    return (
        constants is not None
        and constants[0] is not None
        and abs(constants[0] - value) < NEAR * value
    )


def _bias(context: Context) -> Iterator[Finding]:
    fields = ("architecture", "batchnorm", "conv_bias", "stem")
    biased = {c.architecture for c in context.configs(*fields) if biased_under_batchnorm(c)}
    if biased:
        yield Finding(
            "bias-under-batchnorm",
            "note",
            "plan",
            f"{', '.join(sorted(biased))} {'keeps' if len(biased) == 1 else 'keep'} a bias in "
            "convolutions directly under a batch norm, whose mean cancels it: parameters that do "
            "nothing. conv_bias = false leaves them out, unless a published count is to be met.",
        )


def _linear_pairs(context: Context) -> Iterator[Finding]:
    if any(config.architecture == "conv_pairs" for config in context.configs("architecture")):
        yield Finding(
            "no-nonlinearity",
            "note",
            "plan",
            "conv_pairs has two convolutions in a row with nothing nonlinear between them, which "
            "together compute no more than one of 5x5 could. It reproduces a published network; "
            "for a network of your own take convnet, which has an activation after each.",
        )


CHECKS: tuple[Callable[[Context], Iterator[Finding]], ...] = (
    _variance_as_std,
    _bias,
    _linear_pairs,
)
