"""Rows become runs: one row each, or one row per epoch."""

import itertools
from collections.abc import Callable, Hashable, Sequence

from trainer.errors import UserError

Run = tuple[int, ...]  # positions of its rows, by rising epoch


def by_epoch(
    column: str,
    epochs: Sequence[int | None],
    keys: Sequence[Hashable],
    where: Callable[[int], str],
) -> list[Run] | None:
    """Make runs of rows per epoch; None where each row is a run, and its epoch a result.

    Rows with the same key belong together, however runs are interleaved; a run begins anew where
    the epoch does not grow. If that tears runs apart, because a column such as the learning rate
    of the epoch is in the key, the order of the file decides.

    Args:
        column: the name of the column of epochs.
        epochs: of each row.
        keys: of each row, its settings and its run's name.
        where: tells a row's place in the file.

    Raises:
        UserError: there are rows per epoch, but one has none, or a run begins late.
    """
    first = min((epoch for epoch in epochs if epoch is not None), default=0)
    known = [first if epoch is None else epoch for epoch in epochs]
    runs = _split(known, keys)
    counted = any(len(run) > 2 and _steps(known, [run]) == {1} for run in runs)
    missing = next((row for row, epoch in enumerate(epochs) if epoch is None), None)
    if missing is not None:
        if counted:
            raise UserError(f"{where(missing)}: {column} is empty, but other rows have one")
        return None
    if _are_histories(known, runs, first):
        return runs
    in_order = _split(known, [None] * len(known))
    # Rows that differ in more than their epoch are one run only if nothing else can be meant.
    if first <= 1 and _steps(known, in_order) == {1}:
        return in_order
    if not counted:
        return None
    late = next(run[0] for run in runs if known[run[0]] != first)
    raise UserError(
        f"{where(late)}: a run begins with {column} {known[late]}, others with {first}: "
        "give each run its rows one after the other, or a number in a column 'run'"
    )


def _are_histories(epochs: Sequence[int], runs: Sequence[Run], first: int) -> bool:
    longest = max(map(len, runs))
    together = longest > 1 and all(epochs[run[0]] == first for run in runs)
    # Two replicates and the best epoch of each look like a short history that begins late.
    return together and (first <= 1 or longest > 2 or len(_steps(epochs, runs)) == 1)


def _steps(epochs: Sequence[int], runs: Sequence[Run]) -> set[int]:
    """Return the distances between neighbouring epochs; none where a run begins late."""
    if len({epochs[run[0]] for run in runs}) > 1:
        return set()
    return {epochs[b] - epochs[a] for run in runs for a, b in itertools.pairwise(run)}


def _split(epochs: Sequence[int], keys: Sequence[Hashable]) -> list[Run]:
    runs: list[list[int]] = []
    newest: dict[Hashable, list[int]] = {}
    for row, (epoch, key) in enumerate(zip(epochs, keys, strict=True)):
        own = newest.get(key)
        if own is None or epoch <= epochs[own[-1]]:
            own = newest[key] = []
            runs.append(own)
        own.append(row)
    return [tuple(run) for run in runs]
