"""What every stored value must be: its type, its range, its form; checked here and nowhere else.

A sealed study's checksums say that a value is what was written. Of an older study, of another
tool's, or of one that somebody edited nothing says so: an attribute may hold any JSON, NaN, a
number of 400 digits, or lists nested ten thousand deep. What is read passes through here first, so
that everything behind may rely on the types that it declares.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

Check = Callable[[Any], bool]  # whether a value is what it must be

LARGEST = 1e15  # of any number that we store; floats hold whole numbers exactly up to there
LONGEST_WORD = 1000  # characters of what is shown in a line
DEEPEST = 8  # of what we keep without knowing it: keys of a newer version
SPECIAL = {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}  # words for no number


def parsed(text: str) -> Any:
    """Parse stored JSON; NaN and infinities, which JSON has not, become None.

    Raises:
        ValueError: it is none, or nested too deeply.
    """
    try:
        return json.loads(text, parse_constant=lambda _: None)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def wrong_keys(values: Mapping[str, Any], checks: Mapping[str, Check]) -> list[str]:
    """Name the values that are not what they must be; one that is absent or None is fine."""
    return [
        key
        for key, check in checks.items()
        if (value := values.get(key)) is not None and not check(value)
    ]


# Simple values.


def is_number(value: Any) -> bool:
    """Whether it is a finite number of a size to be computed with; true and false are none."""
    return type(value) in (int, float) and -LARGEST <= value <= LARGEST


def _is_count(value: Any) -> bool:
    return is_number(value) and value >= 0


def is_whole(value: Any) -> bool:
    """Whether it is a whole number."""
    return type(value) is int and -LARGEST <= value <= LARGEST


def _is_natural(value: Any) -> bool:
    return type(value) is int and 0 <= value <= LARGEST


def is_fraction(value: Any) -> bool:
    """Whether it is a number from 0 to 1."""
    return type(value) in (int, float) and 0 <= value <= 1


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable() and len(value) <= LONGEST_WORD


def _is_level(value: Any) -> bool:
    return value is None or isinstance(value, (bool, str)) or is_number(value)


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _is_moment(value: Any) -> bool:
    try:
        return value.isascii() and datetime.fromisoformat(value).tzinfo is not None
    except (AttributeError, TypeError, ValueError):
        return False


def _is_path_within(value: Any) -> bool:
    # Of a file beside the database: a path that leads elsewhere is none of ours.
    if not _is_word(value):
        return False
    path = PurePosixPath(value)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


# Values made of others.


def _list_of(check: Check, *, least: int = 0) -> Check:
    return lambda value: isinstance(value, list) and len(value) >= least and all(map(check, value))


def _object_of(check: Check) -> Check:
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


def _record(checks: Mapping[str, Check], *, required: Iterable[str] = ()) -> Check:
    names = tuple(required)
    return lambda value: (
        isinstance(value, dict)
        and all(value.get(name) is not None for name in names)
        and not wrong_keys(value, checks)
    )


def _either(*checks: Check) -> Check:
    return lambda value: any(check(value) for check in checks)


def is_shallow(value: Any, depth: int = DEEPEST) -> bool:
    """Whether a value of unknown meaning is nested a few times at most."""
    if isinstance(value, (dict, list)):
        inner = value.values() if isinstance(value, dict) else value
        return depth > 0 and all(is_shallow(item, depth - 1) for item in inner)
    return _is_level(value)


_levels = _object_of(_is_level)
_settings = _record({}, required=("changes",))


def _is_square(rows: Any) -> bool:
    return (
        isinstance(rows, list)
        and len(rows) > 1
        and all(
            isinstance(row, list) and len(row) == len(rows) and all(map(_is_natural, row))
            for row in rows
        )
    )


def _is_epoch(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and _is_count(entry.get("epoch"))
        and all(value is None or is_number(value) for value in entry.values())
    )


# A plan, as docs/plans.md and docs/importing.md describe it.

_RANGE = {"low": is_number, "high": is_number, "log": _is_flag, "step": is_number}
_SPACE = _either(
    _list_of(_is_level, least=1),
    _record({"levels": _list_of(_is_level, least=1)}, required=("levels",)),
    _record(_RANGE, required=("low", "high")),
)
_ENTRIES = {"factor": _is_text, "level": _is_level, "changes": _levels, "against": _levels}
_SOURCE = {
    "name": _is_text, "selected_on": _is_text, "test_images": is_whole, "runs": is_whole,
    "note": _is_text,
}  # fmt: skip
_REPORTED = {
    "changes": _levels, "test_accuracy": is_fraction,
    "test_accuracy_range": lambda pair: _list_of(is_fraction, least=2)(pair) and len(pair) == 2,
    "parameters": _is_count, "latency_ms": _is_count, "images_per_second": _is_count,
    "model_bytes": _is_count, "seconds": _is_count, "epochs": _is_count, "note": _is_text,
}  # fmt: skip
_CLAIM = {
    "text": _is_text, "factor": _is_text, "best": _either(_is_level, _levels),
    "better": _is_level, "worse": _is_level, "no_worse": _is_level, "than": _is_level,
    "no_effect": _is_flag, "among": _list_of(_is_level, least=2), "negligible": is_number,
    "with": _levels,
}  # fmt: skip
_SEARCH = {
    "trials": _is_natural, "sampler": _is_text, "pruner": _is_text,
    "objectives": _list_of(_is_text, least=1), "space": _object_of(_SPACE),
    "points": _list_of(_levels), "epoch_budget": _is_natural, "sampler_seed": _is_natural,
}  # fmt: skip
_FIGURE_KEYS = ("name", "better", "accuracy", "unit")
_FIGURE = {
    "column": _is_text, "name": _is_text, "measure": _is_text, "split": _is_text,
    "better": lambda word: word in ("higher", "lower"), "accuracy": _is_flag, "unit": _is_text,
}  # fmt: skip
_IMPORTED = {
    "file": _is_text, "sha256": _is_text, "rows": _is_natural, "runs": _is_natural,
    "metric": _is_text, "selected_on": _is_text, "merged": _object_of(_list_of(_is_text)),
    "numbered": _is_flag, "columns": _object_of(_is_text), "kind": _is_text,
    "notes": _list_of(_is_text), "figure": _record(_FIGURE, required=_FIGURE_KEYS),
}  # fmt: skip
_MODEL = {"pairs": _list_of(lambda pair: _list_of(_is_text, least=2)(pair) and len(pair) == 2)}
PLAN: Mapping[str, Check] = {
    "name": _is_text, "description": _is_text, "design": _is_word, "dataset": _is_word,
    "seeds": _is_natural, "epochs": _is_count, "subset": _is_natural,
    "baseline": _levels, "factors": _object_of(_list_of(_is_level, least=1)),
    "variants": _list_of(_record(_ENTRIES, required=("factor", "changes"))),
    "source": _record(_SOURCE, required=("name",)),
    "reported": _list_of(_record(_REPORTED, required=("changes",))),
    "claims": _list_of(_record(_CLAIM, required=("text",))),
    "search": _record(_SEARCH, required=("space",)), "imported": _record(_IMPORTED),
    "model": _record(_MODEL, required=("pairs",)),
}  # fmt: skip


def plan_fault(plan: Any) -> str | None:
    """Say what makes a stored plan none; None: nothing."""
    if not isinstance(plan, dict):
        return "it is no table"
    wrong = wrong_keys(plan, PLAN)
    wrong += [key for key, value in plan.items() if key not in PLAN and not is_shallow(value)]
    needed = ["name", "design", *(["search"] if plan.get("design") == "search" else [])]
    wrong += [key for key in needed if plan.get(key) is None]
    return f"see {', '.join(map(repr, wrong))}" if wrong else None


# Attributes, as docs/storage.md lists them; others are not read.

_DATASET = {
    "name": _is_word, "sha256": _is_word, "train_images": _is_natural, "test_images": _is_natural,
    "validation_images": _is_natural, "side": _is_natural, "channels": _is_natural,
    "classes": _either(_list_of(_is_text), _is_natural),
    "normalisation": _either(_list_of(is_number), _list_of(_list_of(is_number))),
    "notes": _list_of(_is_text),
}  # fmt: skip
STUDY_ATTRIBUTES: Mapping[str, Check] = {
    "plan": lambda plan: plan_fault(plan) is None, "plan_hash": _is_word,
    "dataset": _record(_DATASET), "versions": _object_of(_is_word), "devices": _list_of(_is_word),
    "git_commit": _is_word, "git_diff": _is_text, "command": _is_text, "host": _is_word,
    "last_run": _is_moment, "code": _object_of(_is_sha256),
}  # fmt: skip
_FIGURES = {"p50_ms": _is_count, "p95_ms": _is_count, "images_per_second": _is_count}
TRIAL_ATTRIBUTES: Mapping[str, Check] = {
    "variant": _is_text, "changes": _levels, "seed": is_whole, "candidate": _is_natural,
    "config": _levels, "history": _list_of(_is_epoch), "outcome": _is_word,
    "best_epoch": _is_count, "val_loss": is_number, "test_accuracy": is_fraction,
    "test_loss": is_number, "parameters": _is_count, "seconds": _is_count,
    "images_per_second": _is_count, "device": _is_word, "precision": _is_word,
    "bank": _is_natural, "convolutions": _is_word,
    "checkpoint": _is_path_within, "weights_sha256": _is_sha256,
    "failure_reason": _is_text, "failure_kind": _is_word, "best_value": is_fraction,
    "latency_ms": _is_count, "inference": _object_of(_object_of(_record(_FIGURES))),
    "model_bytes": _is_count, "multiply_adds": _is_count,
    "confusion": _record({"test": _is_square}),
    "reused": _record({"study": _is_text, "number": is_whole}, required=("study", "number")),
}  # fmt: skip


# Numbers and parameters, as Optuna stores them.


def number(value: Any, kind: Any) -> float:
    """Return a stored number: what its column cannot hold is a word beside it.

    Raises:
        ValueError: it is none.
    """
    if value is None and kind in SPECIAL:
        return SPECIAL[kind]
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError("not a number")
    return float(value)


def distribution(text: str) -> dict[str, Any]:
    """Parse Optuna's form of what a parameter may be.

    Raises:
        ValueError: it is none.
    """
    value = parsed(text)
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise ValueError("not a distribution")
    attributes = value.get("attributes")
    fine = isinstance(attributes, dict) and (
        _list_of(_is_level, least=1)(attributes.get("choices"))
        if value["name"] == "CategoricalDistribution"
        else _record(_RANGE, required=("low", "high"))(attributes)
        and attributes["low"] <= attributes["high"]
        and (attributes["low"] > 0 or not attributes.get("log"))
    )
    if not fine:
        raise ValueError("not a distribution")
    return value


def level(value: Any, kind: Mapping[str, Any]) -> Any:
    """Return a parameter's level from Optuna's "internal representation".

    That is the index of a choice, or the number as a float.

    Raises:
        ValueError: it is no level of this distribution.
    """
    if not is_number(value):
        raise ValueError("not a number")
    attributes = kind["attributes"]
    if kind["name"] == "CategoricalDistribution":
        choices: list[Any] = attributes["choices"]
        if not 0 <= value < len(choices):
            raise ValueError("no such choice")
        return choices[int(value)]
    if not attributes["low"] <= value <= attributes["high"]:
        raise ValueError("out of range")
    return int(value) if kind["name"].startswith("Int") else value
