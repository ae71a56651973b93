"""What a run came to: its state, its figures, its epochs."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from study.importing.cells import is_interrupted, state_of
from study.importing.names import BEST, HIGHER, LAST
from study.importing.reading import Compared, Reading
from study.importing.runs import Run, Runs
from study.importing.table import CellValue

HISTORY = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "test_loss", "test_accuracy")
AT_THE_EPOCH = ("val_loss", "test_loss", "test_accuracy", "best_epoch")
OF_THE_RUN = ("parameters", "latency_ms", "images_per_second")


@dataclass
class Outcome:
    """What a run came to."""

    state: str  # COMPLETE, PRUNED or FAIL
    value: float | None  # of the compared figure; None: FAIL
    steps: dict[int, float] = field(default_factory=dict)  # epoch, from 1 -> compared figure
    attributes: dict[str, Any] = field(default_factory=dict)
    epochs: int | None = None  # how long it trained


def outcomes(reading: Reading, runs: Runs) -> list[Outcome]:
    """Take every run's figures; a run without the compared one has failed, with the reason."""
    assert reading.compared is not None
    return [_outcome(reading, reading.compared, runs, run) for run in runs.runs]


def _outcome(reading: Reading, compared: Compared, runs: Runs, run: Run) -> Outcome:
    by_key = {
        (column.key, column.best): [column.values[row] for row in run] for column in reading.figures
    }
    values = [compared.values[row] for row in run]
    chosen = _chosen_epoch(reading, compared, values)
    history, steps = _history(reading, compared, runs, run)
    value = values[chosen]

    def figure(key: str) -> float | int | None:
        best = by_key.get((key, True), [None])[-1]
        course = by_key.get((key, False), [])
        if best is not None or not course:
            return best
        told = [cell for cell in course if cell is not None]
        # A figure that stands in one row only is the run's, such as a test after training.
        return told[0] if len(told) == 1 else course[chosen]

    attributes: dict[str, Any] = {"history": history} if history else {}
    attributes |= {key: figure(key) for key in AT_THE_EPOCH if key != key_of(compared)}
    for key in OF_THE_RUN:
        told = [cell for cell in by_key.get((key, False), ()) if cell is not None]
        attributes[key] = told[-1] if told else None
    attributes["seconds"] = _seconds(by_key.get(("seconds", False), []))
    trained = by_key.get(("epochs_trained", False), [None])[-1]
    if runs.epochs is not None and len(run) > 1:
        trained = history[-1]["epoch"]
        if sum(cell is not None for cell in values) > 1:
            attributes["best_epoch"] = history[chosen]["epoch"]
    elif runs.trained is not None:
        trained = runs.trained[run[-1]]
    attributes = {key: entry for key, entry in attributes.items() if entry is not None}
    state, reason = _state(reading, compared, run, value)
    if reason is not None:
        kept = {} if value is None else {"figure": value}
        word = reading.table.rows[run[-1]].cells.get(reading.state or "")
        kind = "interrupted" if is_interrupted(word) else "imported"
        attributes |= {"failure_reason": reason, "failure_kind": kind, **kept}
        return Outcome("FAIL", None, steps, attributes, None if trained is None else int(trained))
    attributes["outcome"] = "stopped" if state == "PRUNED" else "finished"
    return Outcome(state, value, steps, attributes, None if trained is None else int(trained))


def key_of(compared: Compared) -> str:
    """Return the trial's attribute that would hold the compared figure too."""
    prefix = {"validation": "val", "test": "test", "training": "train"}.get(compared.split or "")
    return f"{prefix}_{compared.measure}" if prefix else ""


def _chosen_epoch(reading: Reading, compared: Compared, values: Sequence[float | None]) -> int:
    """Choose a run's epoch: the best by validation data, else the last: others may not choose."""
    present = [(value, row) for row, value in enumerate(values) if value is not None]
    if not present:
        return len(values) - 1
    name = reading.names[compared.column].figure
    if compared.split != "validation" or (name and name.qualifier in (BEST, LAST)):
        return present[-1][1]
    sign = 1 if compared.better == HIGHER else -1
    return max(present, key=lambda pair: (sign * pair[0], -pair[1]))[1]


def _state(
    reading: Reading, compared: Compared, run: Run, value: float | None
) -> tuple[str, str | None]:
    """Return a run's state, and why it has failed if it has."""
    row = reading.table.rows[run[-1]]
    state = "COMPLETE"
    if reading.state is not None:
        word = row.cells.get(reading.state)
        state = state_of(word) or "FAIL"
        if state == "FAIL":
            told = "empty" if word is None else repr(word)
            return state, f"{row.where}: {reading.state} is {told}"
    if value is None:
        cell = row.cells.get(compared.column)
        told = "empty" if cell is None else repr(cell)
        return "FAIL", f"{row.where}: {compared.column} is {told}"
    return state, None


def _history(
    reading: Reading, compared: Compared, runs: Runs, run: Run
) -> tuple[list[dict[str, Any]], dict[int, float]]:
    """Return a run's epochs, counted from 1, and the compared figure of each."""
    of_epoch: dict[str, Sequence[float | int | None]] = {
        figure.key: figure.values for figure in reading.figures if not figure.best
    }
    sequence = runs.epochs is not None and len(run) > 1
    counts = runs.epochs if sequence else runs.trained
    if not sequence and not {"train_loss", "train_accuracy"} & of_epoch.keys():
        return [], {}
    if compared.measure in ("loss", "accuracy") and key_of(compared):
        of_epoch[key_of(compared)] = compared.values
    counted = [1] * len(run) if counts is None else [counts[row] or 0 for row in run]
    shift = 1 - min(counted[0], 1)  # some count from 0
    history, steps = [], {}
    for number, row in zip(counted, run, strict=True):
        figures = {key: of_epoch[key][row] for key in HISTORY if key in of_epoch}
        present = {key: figure for key, figure in figures.items() if figure is not None}
        history.append({"epoch": number + shift, **present})
        value = compared.values[row]
        if sequence and value is not None:
            steps[number + shift] = float(value)
    return history, steps


def _seconds(values: Sequence[float | int | None]) -> float | None:
    """Return a run's seconds: those of its epochs added up, unless they count on."""
    present = [value for value in values if value is not None]
    if not present:
        return None
    counting = len(present) > 2 and all(b > a for a, b in itertools.pairwise(present))
    return float(present[-1] if counting and present[-1] > 2 * present[0] else math.fsum(present))


def source_of(reading: Reading, run: Run) -> dict[str, CellValue]:
    """Return where a run stands, and its cells of columns that are not used."""
    rows = reading.table.rows
    kept: Mapping[str, CellValue] = {
        column: _plain(rows[run[-1]].cells.get(column)) for column in reading.kept
    }
    return {"where": rows[run[0]].where, **kept}


def _plain(cell: CellValue) -> CellValue:
    """Return a cell as JSON takes it: NaN and infinities as words."""
    odd = isinstance(cell, float) and not math.isfinite(cell)
    return str(cell) if odd else cell
