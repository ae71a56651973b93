"""A sheet as a study: its plan, its trials, and what was made of every column."""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fmnist_common.text import level_text
from study.importing.columns import SETTINGS, STATES, levels_of
from study.importing.design import Design, find_design, ordered
from study.importing.roles import SELECTED_ON, Roles, assign
from study.importing.runs import Run, by_epoch
from study.importing.sheet import Cell, Sheet
from study.plans.checks import MAX_LEVELS
from study.plans.names import squeeze
from study.plans.plan import Level, Variant, check_name
from trainer.errors import UserError

MAX_RUNS = 100_000
SHOWN_LEVELS = 8
NAMES = 4  # so many runs may each have a word of its own; in a longer table it names the run
HISTORY = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "test_loss", "test_accuracy")


@dataclass(frozen=True)
class ImportedTrial:
    """One run of the file."""

    state: str  # COMPLETE, PRUNED or FAIL
    value: float | None  # the compared accuracy, a fraction
    params: Mapping[str, Level]
    steps: Mapping[int, float]  # epoch, from 1 -> the compared accuracy
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class ImportedStudy:
    """A study to be stored, and what to tell about it."""

    plan: dict[str, Any]
    trials: Sequence[ImportedTrial]
    levels: Mapping[str, Sequence[Level]]  # of each factor, every one that is there
    uses: Mapping[str, str]  # column -> what it was taken for
    notes: Sequence[str]

    @property
    def name(self) -> str:
        """The study's name."""
        return str(self.plan["name"])

    @property
    def summary(self) -> str:
        """What it is, in a line: `factorial of 24 settings, 24 runs`."""
        kind = "no design" if self.plan["design"] == "search" else self.plan["design"]
        settings = len({trial.attributes["variant"] for trial in self.trials})
        return f"{kind}, {settings:,} settings, {len(self.trials):,} runs"


def make_study(
    sheet: Sheet,
    *,
    name: str,
    dataset: str | None = None,
    metric: str | None = None,
    factors: Sequence[str] | None = None,
) -> ImportedStudy:
    """Make a study of a table.

    Args:
        sheet: the table, a row per run or per epoch of one.
        name: the study's.
        dataset: which images the results are of, if that is known.
        metric: the column to compare; None: the validation accuracy, else another accuracy.
        factors: the columns that are factors; None: all that vary and are nothing else.

    Raises:
        UserError: the table cannot be understood without changing a figure; names the line.
    """
    check_name("--study-name", name)
    try:
        return _make(sheet, name, dataset, assign(sheet, metric, factors), factors is not None)
    except UserError as error:
        raise UserError(f"file {sheet.file}: {error}") from error


def _make(sheet: Sheet, name: str, dataset: str | None, roles: Roles, told: bool) -> ImportedStudy:
    rows = {column: levels_of(sheet.column(column)) for column in roles.candidates}
    runs = _runs(sheet, roles, rows)
    if len(runs) > MAX_RUNS:
        raise UserError(f"holds {len(runs):,} runs; at most {MAX_RUNS:,} are imported")
    levels = _levels_by_run(roles, rows, runs)
    varying = {c: own for c, own in levels.items() if told or len(set(own)) > 1}
    constants = {c: own[0] for c, own in levels.items() if c not in varying}
    design, dropped = _design(varying, len(runs), told)
    for column in dropped:
        roles.kept.append(column)
        roles.uses[column] = "kept with each trial, not used: almost every run has its own"
    seeds, seed_words = _seeds(sheet, roles, runs, design)
    for column, level in constants.items():
        roles.uses[column] = f"constant: {_text(level)}"
    for factor, own in design.factors.items():
        for column in design.merged.get(factor, [factor]):
            roles.uses[column] = f"factor: {_listed(ordered(levels[column]))}"
            if factor in design.merged:
                others = [other for other in design.merged[factor] if other != column]
                roles.uses[column] += f"; changes only together with {', '.join(others)}"
        if design.kind != "search" and len(own) > MAX_LEVELS:
            raise UserError(f"factor {factor!r} has {len(own):,} levels; at most {MAX_LEVELS:,}")
    trials = _trials(sheet, roles, runs, design, levels=levels, seeds=seeds)
    epochs = {trial.attributes["config"].get("epochs") for trial in trials}
    plan = {
        "name": name,
        "description": f"imported from {sheet.file}",
        "design": design.kind,
        "dataset": dataset,
        "seeds": max(Counter(design.points).values()),
        "epochs": epochs.pop() if len(epochs) == 1 else None,
        "subset": None,
        "baseline": {**constants, **design.baseline},
        "factors": {},
        **_plan_of(design),
        "imported": {
            "file": sheet.file,
            "sha256": sheet.sha256,
            "rows": len(sheet.rows),
            "runs": len(runs),
            "metric": roles.metric,
            "selected_on": SELECTED_ON.get(roles.compared),
            "merged": {factor: list(columns) for factor, columns in design.merged.items()},
            "numbered": seed_words is not None,
            "columns": {column: roles.uses.get(column, "") for column in sheet.columns},
        },
    }
    notes = [*_notes(roles, design, trials), *([seed_words] if seed_words else [])]
    uses = {column: roles.uses[column] for column in (*sheet.columns, *sheet.left_out)}
    return ImportedStudy(plan, trials, design.factors, uses, notes)


def _runs(sheet: Sheet, roles: Roles, rows: Mapping[str, Sequence[Level]]) -> list[Run]:
    epoch = roles.figure("epoch")
    if epoch is not None:
        named = [sheet.column(column) for column in (roles.seed, roles.run) if column]
        keys = list(zip(*rows.values(), *named, strict=True)) or [()] * len(sheet.rows)
        epochs = [None if own is None else int(own) for own in epoch.values]
        found = by_epoch(epoch.column, epochs, keys, lambda row: sheet.rows[row].where)
        if found is not None:
            roles.uses[epoch.column] = "epoch: a row for each epoch of a run"
            return found
        roles.uses[epoch.column] = "epochs trained"
    return [(row,) for row in range(len(sheet.rows))]


def _levels_by_run(
    roles: Roles, rows: Mapping[str, Sequence[Level]], runs: Sequence[Run]
) -> dict[str, list[Level]]:
    """Return each candidate's level of each run; what changes within a run is no factor."""
    found = {}
    for column, levels in rows.items():
        if any(len({levels[row] for row in run}) > 1 for run in runs):
            roles.uses[column] = "left out: changes within a run"
        else:
            found[column] = [levels[run[0]] for run in runs]
    return found


def _design(columns: Mapping[str, list[Level]], runs: int, told: bool) -> tuple[Design, list[str]]:
    """Find the design, if need be without columns that look like names or measurements."""
    design = find_design(columns, runs)
    if told or design.kind != "search":
        return design, []
    names = [column for column, own in columns.items() if _names_runs(own)]
    doubtful = [
        column for column, own in columns.items() if column in names or _measured(column, own)
    ]
    for dropped in (doubtful, names if len(design.points) > NAMES else []):
        kept = {column: own for column, own in columns.items() if column not in dropped}
        if dropped and kept:
            other = find_design(kept, runs)
            if other.kind != "search" or dropped is names:
                return other, list(dropped)
    return design, []


def _names_runs(levels: Sequence[Level]) -> bool:
    return all(isinstance(own, str) for own in levels) and len(set(levels)) == len(levels)


def _measured(column: str, levels: Sequence[Level]) -> bool:
    """Whether the numbers look measured: with fractions, and hardly any of them twice."""
    if squeeze(column.rpartition(".")[2]) in SETTINGS:
        return False
    fractions = all(isinstance(own, float) for own in levels if own is not None)
    return fractions and len(levels) > NAMES and 2 * len(set(levels)) > len(levels)


def _seeds(
    sheet: Sheet, roles: Roles, runs: Sequence[Run], design: Design
) -> tuple[list[int], str | None]:
    """Return a seed for each run, and how they were made where the file has none.

    Numbers of ours must pair nothing that the file does not pair: only a factorial's cells count
    theirs from 0, as its effects compare cells that have all other levels in common.
    """
    why = "the file has no seeds"
    for column in (roles.seed, roles.run):
        if column is None:
            continue
        own = levels_of(sheet.column(column))
        values = [own[run[0]] for run in runs]
        whole = all(isinstance(v, int) and not isinstance(v, bool) for v in values)
        cells = set(zip(design.points, values, strict=True))
        shared = len(set(values)) < len(runs) or len(set(design.points)) == 1
        roles.uses[column] = "kept with each trial, not used"
        if column == roles.run and not shared:
            continue  # counts all runs: it names them
        if whole and len(cells) == len(runs):
            roles.uses[column] = "replicate seed"
            return [int(str(value)) for value in values], None
        why = f"{column} is not a whole number of its own for each run of a setting"
    counts: Counter[Any] = Counter()
    replicated = len(set(design.points)) < len(runs)
    seeds = []
    for number, point in enumerate(design.points):
        seeds.append(counts[point] if design.kind == "factorial" else number if replicated else 0)
        counts[point] += 1
    return seeds, f"replicates are numbered in the file's order, as {why}" if replicated else None


def _plan_of(design: Design) -> dict[str, Any]:
    """Return the plan's keys that say what varies."""
    if design.kind != "search":
        variants = [dict(own) for own in design.variants]
        return {"factors": design.axes(), **({"variants": variants} if variants else {})}
    search = {
        "trials": len(set(design.points)),
        "sampler": "unknown",
        "pruner": "unknown",
        "objectives": ["val_accuracy"],
        "space": {name: _space_of(own) for name, own in design.factors.items()},
    }
    return {"search": search}


def _space_of(levels: Sequence[Level]) -> Any:
    """Return levels that were tried as an entry of a search space: a range, or a list."""
    known = [level for level in levels if level is not None]
    numbers = [own for own in known if isinstance(own, int | float) and not isinstance(own, bool)]
    if not numbers or len(numbers) < len(known):
        return known
    low, high = min(numbers), max(numbers)
    return {"low": low, "high": high, **({"log": True} if low > 0 and high >= 100 * low else {})}


@dataclass
class _Labels:
    """A name for each setting; two settings never share one, whatever their levels contain."""

    known: dict[str, tuple[Level, ...]] = field(default_factory=dict)

    def of(self, point: tuple[Level, ...], changes: Mapping[str, Level]) -> str:
        plain = Variant(tuple(changes.items())).label
        for number in itertools.count(1):
            label = plain if number == 1 else f"{plain} [{number}]"
            if self.known.setdefault(label, point) == point:
                return label
        raise AssertionError


def _trials(
    sheet: Sheet,
    roles: Roles,
    runs: Sequence[Run],
    design: Design,
    *,
    levels: Mapping[str, Sequence[Level]],
    seeds: Sequence[int],
) -> list[ImportedTrial]:
    labels = _Labels()
    first: dict[tuple[Level, ...], int] = {}
    made = []
    for number, run in enumerate(runs):
        point, changes = design.points[number], design.changes(number)
        attributes: dict[str, Any] = {"variant": labels.of(point, changes)}
        params = design.params(number)
        if design.kind == "search":
            candidate = first.setdefault(point, number)
            attributes = {
                "variant": "baseline" if candidate == 0 else f"#{candidate}",
                "candidate": candidate,
            }
            params = {name: level for name, level in params.items() if level is not None}
        result = _result(sheet, roles, run)
        epochs = result.attributes.pop("epochs", None)
        config = {column: own[number] for column, own in levels.items()}
        attributes |= {
            "changes": changes,
            "seed": seeds[number],
            "config": {**config, "epochs": epochs} if epochs is not None else config,
            "source": {
                "where": sheet.rows[run[0]].where,
                **{column: _plain(sheet.rows[run[-1]].cells.get(column)) for column in roles.kept},
            },
            **result.attributes,
        }
        made.append(ImportedTrial(result.state, result.value, params, result.steps, attributes))
    return made


@dataclass
class _Result:
    state: str
    value: float | None
    steps: dict[int, float]
    attributes: dict[str, Any]


def _result(sheet: Sheet, roles: Roles, run: Run) -> _Result:
    """Take a run's figures; a run without the compared one is kept as failed, with the reason."""
    known = {(own.key, own.best): [own.values[row] for row in run] for own in roles.figures}
    history, steps = _history(roles, run)
    compared = known.get((roles.compared, False), [None] * len(run))
    finite = [(own, -position) for position, own in enumerate(compared) if own is not None]
    # Validation accuracy may choose the epoch; any other figure may not, so the last one counts.
    chosen = len(run) - 1
    if finite and roles.compared == "val_accuracy":
        chosen = -max(finite)[1]
    elif finite:
        chosen = -min(finite, key=lambda own: own[1])[1]

    def figure(key: str) -> float | int | None:
        best = known.get((key, True), [None])[-1]
        own = known.get((key, False))
        return best if best is not None or own is None else own[chosen]

    value = figure(roles.compared)
    # 0.0 is an accuracy; only None is none.
    attributes: dict[str, Any] = {"history": history} if history else {}
    for key in ("val_loss", "test_loss", "test_accuracy", "best_epoch"):
        attributes[key] = figure(key)
    for key in ("parameters", "latency_ms", "images_per_second"):
        own = [one for best in (False, True) for one in known.get((key, best), ())]
        attributes[key] = next((one for one in reversed(own) if one is not None), None)
    if roles.compared == "test_accuracy":  # it chose, so it is none that was looked at once
        del attributes["test_accuracy"]
    attributes["seconds"] = _seconds(known.get(("seconds", False), []))
    trained = figure("epochs")
    if len(run) > 1:
        attributes["best_epoch"] = history[chosen]["epoch"]
        trained = history[-1]["epoch"]
    elif trained is None:
        trained = figure("epoch")
    attributes["epochs"] = trained
    attributes = {key: own for key, own in attributes.items() if own is not None}
    state, reason = _state(sheet, roles, run, value)
    if reason:
        kept = {} if value is None else {"figure": value}
        attributes |= {"failure_reason": reason, "failure_kind": "imported", **kept}
        return _Result(state, None, steps, attributes)
    outcome = "stopped" if state == "PRUNED" else "finished"
    return _Result(state, float(value or 0.0), steps, attributes | {"outcome": outcome})


def _state(
    sheet: Sheet, roles: Roles, run: Run, value: float | int | None
) -> tuple[str, str | None]:
    """Return a run's state, and why it has failed if it has."""
    row = sheet.rows[run[-1]]
    word = str(row.cells.get(roles.state)).lower() if roles.state else "complete"
    state = STATES.get(word, "COMPLETE")
    if state == "FAIL":
        return state, f"{row.where}: {roles.state} is {word!r}"
    if value is None:
        cell = row.cells.get(roles.metric)
        return "FAIL", f"{row.where}: {roles.metric} is {'empty' if cell is None else repr(cell)}"
    return state, None


def _history(roles: Roles, run: Run) -> tuple[list[dict[str, Any]], dict[int, float]]:
    """Return a run's epochs, counted from 1, and the compared accuracy of each."""
    of_epoch = {own.key: own for own in roles.figures if not own.best}
    if len(run) == 1 and not {"train_loss", "train_accuracy"} & of_epoch.keys():
        return [], {}
    epoch = of_epoch.get("epoch") if len(run) > 1 else of_epoch.get("epochs")
    counted = [int(epoch.values[row] or 0) for row in run] if epoch else [1] * len(run)
    shift = 1 - min(counted[0], 1)  # some count from 0
    history, steps = [], {}
    for number, row in zip(counted, run, strict=True):
        figures = {key: of_epoch[key].values[row] for key in HISTORY if key in of_epoch}
        known = {key: own for key, own in figures.items() if own is not None}
        history.append({"epoch": number + shift, **known})
        compared = of_epoch.get(roles.compared)
        value = compared.values[row] if compared and len(run) > 1 else None
        if value is not None:
            steps[number + shift] = float(value)
    return history, steps


def _seconds(values: Sequence[float | int | None]) -> float | None:
    """Return a run's seconds: those of its epochs added up, unless they count on."""
    known = [own for own in values if own is not None]
    if not known:
        return None
    counting = len(known) > 2 and all(b > a for a, b in itertools.pairwise(known))
    return float(known[-1] if counting and known[-1] > 2 * known[0] else math.fsum(known))


def _notes(roles: Roles, design: Design, trials: Iterable[ImportedTrial]) -> list[str]:
    notes = []
    for columns in design.merged.values():
        notes.append(
            f"{' and '.join(columns)} change only together: they are one factor here, and an "
            "effect of it may be of either"
        )
    if roles.compared == "test_accuracy":
        notes.append(
            f"{roles.metric} is measured on test images, and nothing else ranks these runs: the "
            "best of them is too good, as it was chosen by the figure that is reported"
        )
    elif roles.compared == "accuracy":
        notes.append(f"the file does not say which images {roles.metric} is measured on")
    if design.kind == "search":
        notes.append(
            "no design found: neither are all combinations there equally often, nor do most runs "
            "differ from one baseline in a single factor; kept like a search's trials"
        )
    failed = sum(trial.state == "FAIL" for trial in trials)
    if failed:
        notes.append(f"{failed} runs without a figure are kept as failed trials")
    return notes


def _listed(levels: Sequence[Level]) -> str:
    texts = [_text(level) for level in levels[:SHOWN_LEVELS]]
    more = len(levels) - len(texts)
    return ", ".join(texts) + (f" and {more} more" if more > 0 else "")


def _text(level: Level) -> str:
    return "none" if level is None else level_text(level)


def _plain(cell: Cell) -> Cell:
    """Return a cell as JSON takes it: NaN and infinities as words."""
    odd = isinstance(cell, float) and not math.isfinite(cell)
    return str(cell) if odd else cell
