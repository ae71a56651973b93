"""JSON that holds a table as pandas writes one: by columns, or its heading apart from its rows."""

from collections.abc import Mapping
from typing import Any

from study.importing.names import understand, words_of

_OF_EPOCHS = ("figure", "epoch", "step", "cost")  # roles of lists that a run's history has


def records_of(document: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Return the rows of a table in an object; None where it holds none.

    Understood are `{"lr": {"0": 0.1, ...}, ...}`, `{"lr": [0.1, ...], ...}`, and
    `{"columns": [...], "data": [[...], ...]}`. Lists that may be a run's epochs are no columns.
    """
    columns, data = document.get("columns"), document.get("data")
    if isinstance(columns, list) and isinstance(data, list) and data:
        fits = all(isinstance(row, list) and len(row) == len(columns) for row in data)
        return [dict(zip(map(str, columns), row, strict=True)) for row in data] if fits else None
    values = list(document.values())
    if not values or not any(understand(name).figure for name in document):
        return None
    if all(isinstance(value, dict) for value in values):
        index = list(values[0])
        same = index and all(list(value) == index for value in values)
        if not same or any(understand(name).figure for name in index):
            return None
        return [{name: value[key] for name, value in document.items()} for key in index]
    if all(isinstance(value, list) for value in values) and not _is_history(document):
        lengths = set(map(len, values))
        if len(lengths) == 1 and lengths != {0}:
            names = list(document)
            return [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]
    return None


def _is_history(lists: Mapping[str, Any]) -> bool:
    """Whether all lists may be courses of one run: its figures, times and learning rates."""
    return all(
        understand(name).role in _OF_EPOCHS or {"lr", "rate", "momentum"} & {*words_of(name)}
        for name in lists
    )
