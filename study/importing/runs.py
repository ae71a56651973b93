"""Rows become runs: one row each, or one row per epoch."""

import itertools
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from study.importing.cells import numbers
from study.importing.names import words_of
from study.importing.reading import Reading
from trainer.errors import UserError

Run = tuple[int, ...]  # positions of its rows, by rising epoch
LONG = 5  # so many rows at equal distances are a sequence, whatever the column is called


@dataclass(frozen=True)
class Runs:
    """The runs of a table, and what its column of epochs was taken for."""

    runs: Sequence[Run]
    epochs: Sequence[int | None] | None  # of each row; None: rows are no epochs
    trained: Sequence[int | None] | None = None  # of each row, how long its run trained
    chosen: bool = False  # whether that is a setting


def make_runs(reading: Reading, keys: Sequence[Hashable], *, told: bool) -> Runs:
    """Tell which rows are epochs of one run; ask where a setting could be meant.

    Args:
        reading: the columns' roles.
        keys: of each row, its settings and its run's name.
        told: whether the user says that the column counts the rows of a run.

    Raises:
        UserError: the column is no whole number, or runs are torn.
    """
    if reading.table.one_run_per_id and reading.run is not None:
        keys = [str(cell) for cell in reading.table.column(reading.run)]
    column, counts = _counts(reading)
    single = [(row,) for row in range(len(keys))]
    if column is None:
        return Runs(single, None)
    if reading.table.one_run_per_id:
        return _by_id(reading, column, counts, keys)
    runs = by_epoch(column, counts, keys, lambda row: reading.table.rows[row].where)
    if column == reading.step:
        return _by_step(reading, column, counts, runs)
    if runs is not None and (told or _is_sequence(reading, column, counts, runs)):
        reading.uses[column] = "epoch: a row for each of a run"
        return Runs(runs, counts)
    if runs is not None and _asks(reading, column, runs):
        return Runs(single, counts)
    reading.uses[column] = "epochs trained"
    return Runs(single, None, counts, chosen=_is_plural(reading, column))


def _counts(reading: Reading) -> tuple[str | None, list[int | None]]:
    """Return the column that may count a run's rows, and its whole numbers."""
    column = reading.epoch or reading.step
    if column is None:
        return None, []
    try:
        read = numbers(column, reading.table.rows, times=reading.names[column].times, whole=True)
    except UserError:
        if reading.epoch is None or reading.step is None:
            raise
        reading.keep(column, "a part of an epoch: steps count the rows")  # transformers' logs
        reading.epoch = None
        return _counts(reading)
    return column, [None if count is None else int(count) for count in read]


def _by_step(
    reading: Reading, column: str, counts: Sequence[int | None], runs: Sequence[Run] | None
) -> Runs:
    if runs is None or _may_be_replicates(reading, column, counts, runs):
        reading.keep(column)
        return Runs([(row,) for row in range(len(counts))], None)
    reading.uses[column] = "step: a row for each of a run"
    return Runs(runs, counts)


def _may_be_replicates(
    reading: Reading, column: str, counts: Sequence[int | None], runs: Sequence[Run]
) -> bool:
    """Ask about iterations that are counted one by one, as replicates are."""
    filled = [count or 0 for count in counts]
    distances = {filled[b] - filled[a] for run in runs for a, b in itertools.pairwise(run)}
    name = words_of(reading.text(column))[-1]
    if name not in ("iteration", "iterations", "iter") or distances != {1}:
        return False
    reading.questions.append(
        f"{column}: does it count the rows of a run, or its replicates? Say --epoch {column}, or "
        f"--seed {column}"
    )
    return True


def _by_id(
    reading: Reading, column: str, counts: Sequence[int | None], keys: Sequence[Hashable]
) -> Runs:
    groups: dict[Hashable, list[int]] = {}
    for row, key in enumerate(keys):
        groups.setdefault(key, []).append(row)
    runs = [tuple(sorted(rows, key=lambda row: counts[row] or 0)) for rows in groups.values()]
    if all(len(run) == 1 for run in runs):
        if column == reading.epoch:
            reading.uses[column] = "epochs trained"
            return Runs(runs, None, counts)
        reading.keep(column)
        return Runs(runs, None)
    reading.uses[column] = "step or epoch: a row for each of a run"
    return Runs(runs, counts)


def _is_plural(reading: Reading, column: str) -> bool:
    return words_of(reading.text(column))[-1].endswith("epochs")


def _is_sequence(
    reading: Reading, column: str, counts: Sequence[int | None], runs: Sequence[Run]
) -> bool:
    """Whether the numbers count a run's epochs: from 0 or 1 one by one, or long and even."""
    filled = [count or 0 for count in counts]
    distances = {filled[b] - filled[a] for run in runs for a, b in itertools.pairwise(run)}
    longest = max(map(len, runs))
    if len(distances) > 1 and longest < LONG:
        return False
    if distances == {1} and min(filled) <= 1:
        return longest >= (LONG if _is_plural(reading, column) else 2)
    return longest >= LONG and not _is_plural(reading, column)


def _asks(reading: Reading, column: str, runs: Sequence[Run]) -> bool:
    """Ask whether rows are epochs; a name such as `epochs` answers that they are a setting."""
    if _is_plural(reading, column) or max(map(len, runs)) == 1:
        return False
    reading.questions.append(
        f"{column}: does it count the rows of a run, or is it how long each run trains? Say "
        f"--epoch {column}, or name it among --factors"
    )
    reading.uses[column] = "epoch of a row, or a setting"
    return True


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
    filled = [first if epoch is None else epoch for epoch in epochs]
    runs = _split(filled, keys)
    counted = any(len(run) > 2 and _steps(filled, [run]) == {1} for run in runs)
    missing = next((row for row, epoch in enumerate(epochs) if epoch is None), None)
    if missing is not None:
        if counted:
            raise UserError(f"{where(missing)}: {column} is empty, but other rows have one")
        return None
    if _are_histories(filled, runs, first):
        return runs
    in_order = _split(filled, [None] * len(filled))
    # Rows that differ in more than their epoch are one run only if nothing else can be meant.
    if first <= 1 and _steps(filled, in_order) == {1}:
        return in_order
    if not counted:
        return None
    late = next(run[0] for run in runs if filled[run[0]] != first)
    raise UserError(
        f"{where(late)}: a run begins with {column} {filled[late]}, others with {first}: "
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
        current = newest.get(key)
        if current is None or epoch <= epochs[current[-1]]:
            current = newest[key] = []
            runs.append(current)
        current.append(row)
    return [tuple(run) for run in runs]
