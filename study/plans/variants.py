"""What differs from a baseline: a variant, and the rows of `[[variants]]` that name some."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fmnist_common.text import level_text, variant_label
from trainer.config import ARCHITECTURE_FIELDS, FIELD_NAMES, TrainConfig, network_fields
from trainer.errors import UserError, choose

MAX_ROWS = 10_000
# What a plan decides for all its trials alike, and so no variant may change.
PLAN_FIELDS = ("dataset", "subset", "seed", "validation_fraction")
VARIANT_FIELDS = tuple(name for name in FIELD_NAMES if name not in PLAN_FIELDS)

# What some architectures read and others do not.
_NETWORK_FIELDS = frozenset().union(*ARCHITECTURE_FIELDS.values())

Level = bool | int | float | str | None
Check = Callable[[Any], str | None]  # what is wrong with a value, in words


@dataclass(frozen=True)
class Variant:
    """One point of the design: the baseline, or what differs from it."""

    changes: tuple[tuple[str, Level], ...]

    @property
    def label(self) -> str:
        """`baseline`, or only what differs: `batchnorm=false pooling=avg`."""
        return variant_label(dict(self.changes))


BASELINE = Variant(())


def variant_fields(base: TrainConfig) -> tuple[str, ...]:
    """Return what variants of a baseline may change: fields, then the user's own options."""
    options = tuple(name for name, _ in base.options)
    if base.is_foreign:
        return ("trainer", *options) if base.trainer else options
    return (*VARIANT_FIELDS, *options)


def factor_names(base: TrainConfig) -> tuple[str, ...]:
    """Return what may be a factor: a listed variant alone has its own number of epochs."""
    return tuple(name for name in variant_fields(base) if name != "epochs")


def variant(base: TrainConfig, changes: Mapping[str, Any]) -> Variant:
    """Return the variant with some fields changed; those that stay are left out.

    In the order of the fields, so that a plan's tables may be rearranged.
    """
    values = ((name, changes[name]) for name in variant_fields(base) if name in changes)
    return Variant(tuple((name, value) for name, value in values if value != getattr(base, name)))


@dataclass(frozen=True)
class Row:
    """A row of a study's tables: a level of a factor, and the variant that it is compared with.

    The factor of a listed row is any name, `structure`; without a factor it is the baseline's own
    row, or a cell of a factorial design that differs in several fields.
    """

    factor: str | None
    level: Level
    variant: Variant
    against: Variant = BASELINE

    def to_dict(self) -> dict[str, Any]:
        """Return the row as an entry of `[[variants]]`."""
        against = {"against": dict(self.against.changes)} if self.against.changes else {}
        changes = dict(self.variant.changes)
        return {"factor": self.factor, "level": self.level, "changes": changes, **against}


def row_of(variant: Variant) -> Row:
    """Return a row of the design's own: named by its factor where it differs in one field."""
    factor, level = variant.changes[0] if len(variant.changes) == 1 else (None, None)
    return Row(factor, level, variant)


def variant_of(key: str, changes: Mapping[str, Any], base: TrainConfig) -> Variant:
    """Return the variant of a baseline with some fields changed; those that stay are left out.

    Raises:
        UserError: a field is unknown, or its value invalid; the message begins with `key`.
    """
    for name in changes:
        if name not in variant_fields(base):
            raise UserError(choose(key, name, variant_fields(base)))
    try:
        config = TrainConfig.from_dict({**base.to_dict(), **changes})
    except UserError as error:
        raise UserError(f"{key}.{error}") from error
    return variant(base, {name: getattr(config, name) for name in changes})


def parse_rows(entries: Any, base: TrainConfig) -> tuple[Row, ...]:
    """Read `[[variants]]`: the rows that a plan lists.

    Raises:
        UserError: a key is unknown or its value invalid; the message names the entry and the key.
    """
    checks = {"factor": text, "level": _level, "changes": table, "against": table}
    rows = []
    for key, entry in listed("variants", entries):
        fields = checked(key, entry, checks, required=("factor", "level", "changes"))
        variant = variant_of(f"{key}.changes", fields["changes"], base)
        against = variant_of(f"{key}.against", fields.get("against", {}), base)
        rows.append(Row(fields["factor"], fields["level"], variant, against))
    return tuple(rows)


def check_rows(
    rows: Sequence[Row], levels: Mapping[str, Sequence[Level]], variants: Collection[Variant]
) -> None:
    """Check that rows are told apart, and compared with variants that there are.

    Args:
        rows: the listed ones.
        levels: of each factor that is a field.
        variants: all of the plan.

    Raises:
        UserError: the message names entry and key.
    """
    taken = {
        (name, level_text(level))
        for name, factor_levels in levels.items()
        for level in factor_levels
    }
    for number, row in enumerate(rows, 1):
        place = (str(row.factor), level_text(row.level))
        if place in taken:
            raise UserError(
                f"variants.{number}: level {row.level!r} of {row.factor} is listed twice"
            )
        taken.add(place)
        if row.against not in variants:
            raise UserError(
                f"variants.{number}.against = {dict(row.against.changes)!r}: names no variant of "
                "the plan"
            )


def check_is_read(key: str, field: str, architectures: Sequence[str]) -> None:
    """Check that one of the architectures reads a field; else its levels are one network.

    Raises:
        UserError: none does; the message says which do.
    """
    if field in _NETWORK_FIELDS and not any(field in network_fields(a) for a in architectures):
        reading = ", ".join(name for name, fields in ARCHITECTURE_FIELDS.items() if field in fields)
        raise UserError(f"{key}: is not read by {', '.join(architectures)}; it is by {reading}")


def check_options(base: TrainConfig, architectures: Sequence[str]) -> None:
    """Check that a plan's options are for somebody: a network or a training of the user's.

    Raises:
        UserError: nobody reads them.
    """
    for name, _ in base.options:
        if name.startswith("trainer_options."):
            raise UserError(f"{name}: belongs to a training of yours: give trainer or command")
        if not any(":" in architecture for architecture in architectures):
            raise UserError(
                f"{name}: belongs to a network of yours: architecture = 'module:function'"
            )


def listed(key: str, entries: Any) -> list[tuple[str, Any]]:
    """Name the entries of an array of tables: `variants.1`, `variants.2`, ...

    Raises:
        UserError: it is no array, or a very long one.
    """
    if not isinstance(entries, (list, tuple)):
        raise UserError(f"{key} = {entries!r}: must be an array of tables, [[{key}]]")
    if len(entries) > MAX_ROWS:
        raise UserError(f"{key}: has {len(entries)} entries; at most {MAX_ROWS} are read")
    return [(f"{key}.{number}", entry) for number, entry in enumerate(entries, 1)]


def checked(
    key: str, entry: Any, checks: Mapping[str, Check], required: tuple[str, ...]
) -> dict[str, Any]:
    """Return a table whose keys all passed their checks.

    Raises:
        UserError: a key is unknown or missing, or its value invalid.
    """
    if not isinstance(entry, Mapping):
        raise UserError(f"{key} = {entry!r}: must be a table")
    for name in entry:
        if name not in checks:
            raise UserError(choose(f"{key} key", name, list(checks)))
    for name in required:
        if name not in entry:
            raise UserError(f"{key}.{name}: is missing")
    for name, value in entry.items():
        wrong = checks[name](value)
        if wrong:
            raise UserError(f"{key}.{name} = {value!r}: {wrong}")
    return dict(entry)


def text(value: Any) -> str | None:
    """Check a name or a remark: it is shown on terminals and pages."""
    if isinstance(value, str) and 0 < len(value) <= 1000 and value.isprintable():
        return None
    return "must be one line of 1 to 1000 printable characters"


def table(value: Any) -> str | None:
    """Check a table within an entry."""
    return None if isinstance(value, Mapping) else "must be a table, { NAME = value }"


def _level(value: Any) -> str | None:
    if isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value)):
        return None
    wrong = "must be a string, a finite number, or true or false"
    return text(value) if isinstance(value, str) else wrong
