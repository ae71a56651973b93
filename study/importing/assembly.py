"""A reading becomes a study: its design, its seeds, its plan and its trials."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fmnist_common.text import level_text
from study.importing.cells import levels_of
from study.importing.design import Design, find_design, ordered
from study.importing.factors import Factors
from study.importing.names import SPREAD, words_of
from study.importing.reading import Compared, Reading
from study.importing.runs import Runs
from study.importing.trials import Outcome, source_of
from study.plans.checks import MAX_LEVELS
from study.plans.plan import Level, Variant
from trainer.errors import UserError

SHOWN = 8  # levels that are listed


@dataclass(frozen=True)
class ImportedTrial:
    """One run of the table."""

    state: str  # COMPLETE, PRUNED or FAIL
    value: float | None  # the compared figure; an accuracy is a fraction
    params: Mapping[str, Level]
    steps: Mapping[int, float]  # epoch, from 1 -> the compared figure
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class ImportedStudy:
    """A study to be stored, and what to tell about it."""

    plan: dict[str, Any]
    trials: Sequence[ImportedTrial]
    levels: Mapping[str, Sequence[Level]]  # of each factor, every one that is there
    uses: Mapping[str, str]  # column -> what it was taken for
    notes: Sequence[str]
    kind: str  # what the source was recognised as

    @property
    def name(self) -> str:
        """The study's name."""
        return str(self.plan["name"])

    @property
    def minimize(self) -> bool:
        """Whether less of the compared figure is better."""
        return bool(self.plan["imported"]["figure"]["better"] == "lower")

    @property
    def summary(self) -> str:
        """What it is, in a line: `factorial, 24 settings, 24 runs`."""
        kind = "no design" if self.plan["design"] == "search" else self.plan["design"]
        settings = len(
            {trial.attributes["variant"] for trial in self.trials if trial.state != "FAIL"}
        )
        count = Counter(trial.state for trial in self.trials)
        words = {"FAIL": "not finished", "PRUNED": "stopped early"}
        beside = ", ".join(
            f"{count[state]:,} {word}" for state, word in words.items() if count[state]
        )
        plural = "" if len(self.trials) == 1 else "s"
        runs = f"{len(self.trials):,} run{plural}" + (f" ({beside})" if beside else "")
        return f"{kind}, {settings:,} setting{'' if settings == 1 else 's'}, {runs}"


def column_uses(reading: Reading) -> dict[str, str]:
    """Say of every column what it was taken for."""
    columns = (*reading.table.columns, *reading.table.left_out)
    uses = dict.fromkeys(reading.seeds, "replicate seed")
    uses |= dict.fromkeys(reading.doubtful, "not used") | reading.uses
    return {column: uses.get(column, "setting") for column in columns}


def describe(
    reading: Reading, factors: Factors, design: Design | None, live: Sequence[int] | None = None
) -> None:
    """Say of every setting what it is, and which levels finished runs have."""
    merged = {} if design is None else design.merged
    for column, level in factors.constants.items():
        reading.uses[column] = f"constant: {_text(level)}"
    for column, levels in factors.varying.items():
        levels_present = levels if live is None else [levels[run] for run in live]
        reading.uses[column] = f"factor: {_listed(ordered(levels_present))}"
        for together in merged.values():
            if reading.text(column) in together:
                others = [name for name in together if name != reading.text(column)]
                reading.uses[column] += f"; changes only together with {', '.join(others)}"
    for column in (*reading.settings, *reading.doubtful):
        reading.uses.setdefault(column, "setting of unfinished runs only")


@dataclass
class Assembly:
    """The steps from a reading to a study."""

    reading: Reading
    runs: Runs
    results: Sequence[Outcome]
    levels: Mapping[str, Sequence[Level]]
    factors: Factors
    live: Sequence[int]
    notes: list[str] = field(default_factory=list)

    def made(self, name: str, dataset: str | None) -> ImportedStudy:
        """Return the study.

        Raises:
            UserError: a factor has more levels than a design may have.
        """
        reading, compared = self.reading, self.reading.compared
        assert compared is not None
        design, places = self._design()
        describe(reading, self.factors, design, [*places])
        for factor, levels in design.factors.items():
            if design.kind != "search" and len(levels) > MAX_LEVELS:
                raise UserError(
                    f"factor {factor!r} has {len(levels):,} levels; at most {MAX_LEVELS:,}"
                )
        seeds, numbered = self._seeds(design, places)
        trials = self._trials(design, places, seeds)
        epochs = {trials[run].attributes["config"].get("epochs") for run in self.live}
        constants = {
            reading.text(column): level for column, level in self.factors.constants.items()
        }
        plan = {
            "name": name,
            "description": f"imported from {reading.table.kind}, {reading.table.file}",
            "design": design.kind,
            "dataset": dataset,
            "seeds": max(Counter(design.points).values(), default=0),
            "epochs": epochs.pop() if len(epochs) == 1 else None,
            "subset": None,
            "baseline": {**constants, **({} if design.kind == "search" else design.baseline)},
            "factors": {},
            **_plan_of(design, compared),
            "imported": {
                "file": reading.table.file,
                "kind": reading.table.kind,
                "sha256": reading.table.sha256,
                "rows": len(reading.table.rows),
                "runs": len(self.runs.runs),
                "metric": compared.column,
                "selected_on": compared.split,
                "figure": compared.to_dict(),
                "merged": {factor: list(columns) for factor, columns in design.merged.items()},
                "numbered": numbered is not None,
                "columns": column_uses(reading),
            },
        }
        notes = [*self._notes(design, compared), *([numbered] if numbered else [])]
        plan["imported"]["notes"] = notes
        return ImportedStudy(
            plan, trials, design.factors, column_uses(reading), notes, reading.table.kind
        )

    def _design(self) -> tuple[Design, dict[int, int]]:
        """Find the design of the runs that came to an end; return each one's place in it.

        Runs that were stopped early belong to a search; in other designs they stand beside it.
        """
        columns = self.factors.varying
        design = self._design_of(self.live)
        places = list(self.live)
        pruned = [n for n, outcome in enumerate(self.results) if outcome.state == "PRUNED"]
        if design.kind == "search" and columns and set(pruned) - set(places):
            places = sorted({*places, *pruned})
            design = self._design_of(places)
        return design, {run: place for place, run in enumerate(places)}

    def _design_of(self, runs: Sequence[int]) -> Design:
        text = self.reading.text
        columns = {
            text(name): [levels[run] for run in runs]
            for name, levels in self.factors.varying.items()
        }
        return find_design(columns, len(runs))

    def _seeds(self, design: Design, places: Mapping[int, int]) -> tuple[list[int], str | None]:
        """Return a seed for each run, and how they were made where the table has none.

        Numbers of ours must pair nothing that the table does not pair: only a factorial's cells
        count theirs from 0, as its effects compare cells that have all other levels in common.
        """
        why = "the file has no seeds"
        points = [self._point(design, places, run) for run in range(len(self.results))]
        for columns in ([*self.reading.seeds], [self.reading.run]):
            told = [column for column in columns if column is not None]
            if not told:
                continue
            seeds, reason = self._told_seeds(told, points, design)
            for column in told:
                self.reading.keep(column) if column not in self.reading.kept else None
            if seeds is not None:
                for column in told:
                    self.reading.kept.remove(column)
                    self.reading.uses[column] = "replicate seed"
                return seeds, None
            why = reason or why
        counts: Counter[Any] = Counter()
        replicated = len(set(design.points)) < len(design.points)
        made = []
        for number, point in enumerate(points):
            factorial = design.kind == "factorial"
            made.append(counts[point] if factorial else number if replicated else 0)
            counts[point] += 1
        words = f"replicates are numbered in the file's order, as {why}" if replicated else None
        return made, words

    def _told_seeds(
        self, columns: Sequence[str], points: Sequence[Any], design: Design
    ) -> tuple[list[int] | None, str | None]:
        """Return the seeds of columns, if they tell the runs of every setting apart."""
        table = self.reading.table
        cells = [levels_of(table.column(column))[0] for column in columns]
        rows = [tuple(levels[run[0]] for levels in cells) for run in self.runs.runs]
        shared = len(set(rows)) < len(rows) or len(set(design.points)) == 1
        if columns == [self.reading.run] and not shared:
            return None, None  # counts all runs: it names them
        name = " and ".join(columns)
        if len({*zip(points, rows, strict=True)}) < len(rows):
            return None, f"{name} is not a number of its own for each run of a setting"
        whole = [_whole(row[0]) for row in rows if len(columns) == 1]
        if whole and None not in whole:
            return [seed for seed in whole if seed is not None], None
        if any(None in row for row in rows):
            return None, f"{name} is empty in some rows"
        if columns == [self.reading.run]:
            return None, f"{name} is not a whole number of its own for each run of a setting"
        number = {row: position for position, row in enumerate(dict.fromkeys(rows))}
        self.reading.notes.append(f"{name}: numbered from 0 in the file's order")
        return [number[row] for row in rows], None

    def _point(self, design: Design, places: Mapping[int, int], run: int) -> Any:
        if run in places:
            return design.points[places[run]]
        return tuple(levels[run] for levels in self.factors.varying.values())

    def _trials(
        self, design: Design, places: Mapping[int, int], seeds: Sequence[int]
    ) -> list[ImportedTrial]:
        labels, first = _Labels(), dict[Any, int]()
        config_levels = {
            self.reading.text(column): levels for column, levels in self.levels.items()
            if column in self.factors.varying or column in self.factors.constants
        }  # fmt: skip
        made = []
        for number, (run, result) in enumerate(zip(self.runs.runs, self.results, strict=True)):
            point = self._point(design, places, number)
            params, changes = self._params(design, places, number)
            attributes: dict[str, Any] = {"variant": labels.of(point, changes)}
            if design.kind == "search":
                candidate = first.setdefault(point, number)
                attributes = {"variant": f"#{candidate}", "candidate": candidate}
                params = {name: level for name, level in params.items() if level is not None}
            if number not in places and None in changes.values():
                attributes["variant"] = f"settings not told [{number}]"
            attributes |= {
                "changes": changes,
                "seed": seeds[number],
                "config": _config(config_levels, number, result),
                "source": source_of(self.reading, run),
                **result.attributes,
            }
            made.append(ImportedTrial(result.state, result.value, params, result.steps, attributes))
        return made

    def _params(
        self, design: Design, places: Mapping[int, int], run: int
    ) -> tuple[dict[str, Level], dict[str, Level]]:
        """Return a run's levels that the design has, and what it changes of the baseline."""
        if run in places:
            params = design.params(places[run])
            return params, params if design.kind == "search" else design.changes(places[run])
        text = self.reading.text
        run_levels = {text(name): levels[run] for name, levels in self.factors.varying.items()}
        levels = {
            name: level
            for name, level in run_levels.items()
            if level in design.factors.get(name, ())
        }
        changes = {
            name: level for name, level in run_levels.items()
            if name not in design.baseline or design.baseline[name] != level
        }  # fmt: skip
        return levels, changes

    def _notes(self, design: Design, compared: Compared) -> list[str]:
        notes = [*self.reading.notes]
        for columns in design.merged.values():
            notes.append(
                f"{' and '.join(columns)} change only together: they are one factor here, and an "
                "effect of it may be of either"
            )
        if compared.split == "test":
            notes.append(
                f"{compared.column} is measured on test images: the best of these runs is too "
                "good, as it was chosen by the figure that is reported"
            )
        elif compared.split == "training":
            notes.append(
                f"{compared.column} is measured on training images: it says how well the runs fit, "
                "not how good they are"
            )
        elif compared.split is None:
            notes.append(f"the file does not say which images {compared.column} is measured on")
        if design.kind == "search":
            notes.append(
                "no design found: neither are all combinations there equally often, nor do most "
                "runs differ from one baseline in a single factor; kept like a search's trials"
            )
        failed = sum(outcome.state == "FAIL" for outcome in self.results)
        if failed:
            plural = "s" if failed > 1 else ""
            notes.append(
                f"{failed} run{plural} that did not finish, or without a figure, count nowhere: "
                "kept as failed trials"
            )
        if any("fold" in words_of(name) for name in self.reading.seeds):
            notes.append(
                "folds are read as replicates: they share training data, so that intervals are "
                "narrower than those of new runs"
            )
        folds = [name for name, understood in self.reading.names.items() if understood.figure
                 and understood.figure.qualifier == SPREAD and "split0" in name]  # fmt: skip
        if folds:
            notes.append(
                "folds are not runs: they share training data, so a setting's mean counts once"
            )
        return notes


@dataclass
class _Labels:
    """A name for each setting; two settings never share one, whatever their levels contain."""

    points: dict[str, Any] = field(default_factory=dict)

    def of(self, point: Any, changes: Mapping[str, Level]) -> str:
        plain = Variant(tuple(changes.items())).label
        for number in itertools.count(1):
            label = plain if number == 1 else f"{plain} [{number}]"
            if self.points.setdefault(label, point) == point:
                return label
        raise AssertionError


def _plan_of(design: Design, compared: Compared) -> dict[str, Any]:
    """Return the plan's keys that say what varies."""
    if design.kind != "search":
        variants = [dict(variant) for variant in design.variants]
        return {"factors": design.axes(), **({"variants": variants} if variants else {})}
    search = {
        "trials": len(set(design.points)),
        "sampler": "unknown",
        "pruner": "unknown",
        "objectives": ["val_accuracy" if compared.accuracy else compared.name],
        "space": {name: _space_of(levels) for name, levels in design.factors.items()},
    }
    return {"search": search}


def _space_of(levels: Sequence[Level]) -> Any:
    """Return levels that were tried as an entry of a search space: a range, or a list."""
    present = [level for level in levels if level is not None]
    numbers = [
        level for level in present if isinstance(level, int | float) and not isinstance(level, bool)
    ]
    if not numbers or len(numbers) < len(present):
        return present
    low, high = min(numbers), max(numbers)
    return {"low": low, "high": high, **({"log": True} if low > 0 and high >= 100 * low else {})}


def _listed(levels: Sequence[Level]) -> str:
    texts = [_text(level) for level in levels[:SHOWN]]
    more = len(levels) - len(texts)
    return ", ".join(texts) + (f" and {more} more" if more > 0 else "")


def _whole(seed: Level) -> int | None:
    """Return a seed that is a whole number; pandas writes 1.0 for one where others are missing."""
    if isinstance(seed, float):
        return int(seed) if seed.is_integer() else None
    return seed if isinstance(seed, int) and not isinstance(seed, bool) else None


def _text(level: Level) -> str:
    return "none" if level is None else level_text(level)


def _config(levels: Mapping[str, Sequence[Level]], number: int, result: Outcome) -> dict[str, Any]:
    config: dict[str, Any] = {name: of_runs[number] for name, of_runs in levels.items()}
    return config if result.epochs is None else {**config, "epochs": result.epochs}
