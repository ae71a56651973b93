"""Which column is what: told by the user, else by the source, else by its name and its cells.

What none of them tells is a question (`UnclearError`), never a guess.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from study.importing.cells import (
    MISSING,
    accuracies,
    check_shares,
    is_date,
    levels_of,
    number,
    numbers,
    state_of,
)
from study.importing.choosing import choose_figure
from study.importing.names import (
    BEST,
    HIGHER,
    LAST,
    LOWER,
    MEAN,
    SPREAD,
    FigureName,
    Name,
    understand,
)
from study.importing.table import CellValue, Table
from trainer.errors import UserError, choose

WHOLE = frozenset({"parameters", "best_epoch", "epochs_trained"})
KEPT = "kept with each trial, not used"
UNITS = ("percent", "fraction")
MOST_QUESTIONS = 8  # that one message asks


class UnclearError(UserError):
    """A table that cannot be read without asking; holds the reading so far."""

    def __init__(self, questions: Sequence[str], uses: Mapping[str, str]) -> None:
        more = len(questions) - MOST_QUESTIONS
        further = [f"and {more:,} further columns"] if more > 0 else []
        super().__init__("; ".join([*questions[:MOST_QUESTIONS], *further]))
        self.uses = uses


@dataclass(frozen=True)
class Options:
    """What the user says of a table."""

    metric: str | None = None
    factors: Sequence[str] | None = None
    seed: str | None = None
    epoch: str | None = None
    ignore: Sequence[str] = ()
    lower_is_better: bool = False
    unit: str | None = None
    keep_copies: bool = False


@dataclass(frozen=True)
class Figure:
    """A column that holds a figure of each row, or a cost."""

    column: str
    key: str  # of a trial's attribute, such as "val_loss"; "" where there is none
    values: Sequence[float | int | None]
    best: bool = False  # of the run's best or last epoch, not of the row's own


@dataclass(frozen=True)
class Compared:
    """The figure that is compared, as the study keeps it (docs/storage.md)."""

    column: str
    name: str  # "validation loss"
    measure: str  # "loss"
    split: str | None
    better: str
    unit: str  # "%": shown in per cent; "": a plain number; or what the user said
    accuracy: bool  # a fraction from 0 to 1, shown in per cent
    values: Sequence[float | None]

    def to_dict(self) -> dict[str, str | bool | None]:
        """Return all but the values, JSON-ready."""
        names = ("column", "name", "measure", "split", "better", "unit", "accuracy")
        return {name: getattr(self, name) for name in names}


@dataclass
class Reading:
    """What each column is; `uses` says it in words."""

    table: Table
    names: dict[str, Name]  # column -> what its name says
    settings: list[str] = field(default_factory=list)  # chosen, by name or by the source
    doubtful: dict[str, str] = field(default_factory=dict)  # column -> unknown, identity, cost
    seeds: list[str] = field(default_factory=list)
    run: str | None = None
    state: str | None = None
    epoch: str | None = None
    step: str | None = None
    figures: list[Figure] = field(default_factory=list)
    compared: Compared | None = None
    kept: list[str] = field(default_factory=list)
    uses: dict[str, str] = field(default_factory=dict)
    questions: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def text(self, column: str) -> str:
        """Return a column's name without the prefix of a tool."""
        return self.names[column].text

    def keep(self, column: str, why: str = KEPT) -> None:
        """Leave a column out of every figure; its cells stay with the trials."""
        self.kept.append(column)
        self.uses[column] = why

    def figure(self, key: str, *, best: bool = False) -> Figure | None:
        """Return the column of a figure, if there is one."""
        return next(
            (figure for figure in self.figures if (figure.key, figure.best) == (key, best)), None
        )


def _left_out(table: Table) -> dict[str, str]:
    return {name: f"left out: {why}" for name, why in table.left_out.items()}


def read_columns(table: Table, options: Options) -> Reading:
    """Give every column its role.

    Raises:
        UserError: an option names no column, or a cell of a figure is no number.
    """
    same = _same_columns(table)
    reading = Reading(table, _names(table, same))
    reading.uses, reading.notes = _left_out(table), [*reading.notes, *table.notes]
    told = _told(reading, options)
    figures: dict[str, FigureName] = {}
    for column in table.columns:
        if column in same:
            reading.keep(column, f"the same as {same[column]}")
            continue
        role = told.get(column) or _role(reading, column)
        if role == "figure":
            figures[column] = _figure_name(reading, column)
        else:
            only_told = options.factors is not None
            _take(reading, column, role, left_out=only_told and column not in told)
    _unnamed_beside_named(reading, figures)
    metric = _resolve(reading, "--metric", options.metric) if options.metric else None
    chosen = metric or _choose(reading, figures)
    if chosen is not None:
        reading.compared = _compared(reading, chosen, figures[chosen], options, named=bool(metric))
    for column, name in figures.items():
        if column != chosen:
            _read_figure(reading, column, name)
    return reading


def _same_columns(table: Table) -> dict[str, str]:
    """Find columns that are another one of the same name once more: `lr` and `params.lr`."""
    first: dict[str, str] = {}
    same = {}
    for column in table.columns:
        other = first.setdefault(understand(column).text.lower(), column)
        if other != column and levels_of(table.column(other)) == levels_of(table.column(column)):
            same[column] = other
    return same


def _names(table: Table, same: Collection[str]) -> dict[str, Name]:
    """Understand the columns; a name without a tool's prefix must stay unlike all others."""
    names = {column: understand(column) for column in table.columns}
    texts = [name.text for column, name in names.items() if column not in same]
    return {
        column: name if texts.count(name.text) <= 1 or name.text == column
        else Name(column, name.role, name.figure, name.key, name.times)
        for column, name in names.items()
    }  # fmt: skip


def _resolve(reading: Reading, option: str, given: str) -> str:
    """Find the column that a user names, with or without the prefix of a tool."""
    for column in reading.table.columns:
        if given in (column, reading.text(column)):
            return column
    raise UserError(choose(option, given, list(reading.table.columns)))


def _told(reading: Reading, options: Options) -> dict[str, str]:
    told = {_resolve(reading, "--ignore", name): "ignored" for name in options.ignore}
    told |= {_resolve(reading, "--factors", name): "setting" for name in options.factors or ()}
    for option, role in (("seed", "seed"), ("epoch", "epoch"), ("metric", "figure")):
        given = getattr(options, option)
        if given is not None:
            told[_resolve(reading, f"--{option}", given)] = role
    if options.seed is not None:  # then no other column is
        for column in reading.table.columns:
            if _role(reading, column) == "seed":
                told.setdefault(column, "note")
    return told


def _role(reading: Reading, column: str) -> str | None:
    """Return a column's role by its source or its name, as far as its cells agree."""
    role = reading.table.roles.get(column) or reading.names[column].role
    cells = [cell for cell in reading.table.column(column) if cell is not None]
    if role == "objective":
        return "figure"
    if role is None and cells and all(map(is_date, cells)):
        return "note"
    if role == "state" and not any(map(state_of, cells)):
        return None  # it is called so, but says something else
    if role in ("figure", "cost", "epoch", "step") and cells and not any(map(_numeric, cells)):
        # A loss called focal; a size called large; but a spread such as 91.2 ± 0.3 is a figure.
        words = all(isinstance(cell, bool) or (isinstance(cell, str) and not _has_digit(cell))
                    for cell in cells)  # fmt: skip
        return "setting" if words and not all(_missing(cell) for cell in cells) else role
    return role


def _numeric(cell: CellValue) -> bool:
    if isinstance(cell, str):
        text = cell.removesuffix("%").strip().replace(",", "")
        try:
            float(text)
        except ValueError:
            return False
        return text.lower() not in MISSING
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def _missing(cell: CellValue) -> bool:
    return isinstance(cell, str) and cell.lower() in MISSING


def _has_digit(text: str) -> bool:
    return any(character.isdigit() for character in text)


def _take(reading: Reading, column: str, role: str | None, *, left_out: bool) -> None:
    """Put a column that is no figure where it belongs."""
    if role == "ignored":
        reading.keep(column, "left out, as you said")
    elif role in ("setting", "identity", None) and left_out:
        reading.keep(column, "left out: not among --factors")
    elif role == "setting":
        reading.settings.append(column)
    elif role == "seed":
        reading.seeds.append(column)
    elif role in ("run", "state", "epoch", "step") and getattr(reading, role) is None:
        setattr(reading, role, column)
        reading.uses[column] = {"run": "run", "state": "state of the run"}.get(role, role)
    elif role in ("run", "epoch", "step"):
        reading.keep(column)
    elif role == "cost":
        _read_cost(reading, column)
        if left_out:
            reading.keep(column, reading.uses.get(column, KEPT))
        else:
            reading.doubtful[column] = "cost"
    elif role in (None, "identity"):
        reading.doubtful[column] = role or "unknown"
    else:
        reading.keep(column)


def _figure_name(reading: Reading, column: str) -> FigureName:
    """Return what is known of a figure: by its source, else by its name."""
    name = reading.names[column]
    text = name.text
    figure = name.figure or understand(text).figure
    split = reading.table.split.get(column, figure.split if figure else None)
    better = reading.table.better.get(column, figure.better if figure else None)
    if figure is None and name.role == "cost" and better is None:
        better = HIGHER if name.key == "images_per_second" else LOWER
    if figure is None:
        return FigureName(text, better, False, split, None, "%" in text, True)
    return FigureName(
        figure.name, better, figure.share, split, figure.qualifier, figure.percent, figure.plain
    )


def _unnamed_beside_named(reading: Reading, figures: dict[str, FigureName]) -> None:
    """Take `acc` beside `val_acc` or `test_acc` for the training images, as Keras writes it."""
    named = {figure.name for figure in figures.values() if figure.split in ("validation", "test")}
    if any(figure.split == "validation" for figure in figures.values()):
        named.add("loss")
    for column, figure in figures.items():
        if figure.split is None and figure.name in named and figure.qualifier is None:
            figures[column] = FigureName(
                figure.name,
                figure.better,
                figure.share,
                "training",
                None,
                figure.percent,
                figure.plain,
            )


def _choose(reading: Reading, figures: Mapping[str, FigureName]) -> str | None:
    objective = [column for column in figures if reading.table.roles.get(column) == "objective"]
    if objective:
        return objective[0]
    chosen, question = choose_figure(figures, reading.table.columns)
    if question:
        reading.questions.append(question)
    return chosen


def _compared(
    reading: Reading, column: str, name: FigureName, options: Options, *, named: bool
) -> Compared | None:
    """Read the compared figure; ask if nobody says whether more of it is better."""
    better = LOWER if options.lower_is_better else name.better
    if better is None and not named:
        reading.questions.append(
            f"{column}: nothing says whether more or less of it is better; say --metric {column}, "
            f"or --metric {column} --lower-is-better"
        )
        reading.uses[column] = "a figure of unknown direction"
        return None
    rows, notes = reading.table.rows, []
    _refuse_summaries(reading, column, name)
    accuracy = name.name.endswith("accuracy") and name.share and better != LOWER
    values: Sequence[float | None]
    if accuracy:
        read = accuracies(column, rows, percent=name.percent, unit=options.unit)
        values, unit = read.values, "%"
        notes += ["percentages, kept as fractions"] if read.percent else []
    else:
        if name.share and options.unit is None:
            check_shares(column, rows, percent=name.percent, lower=better == LOWER)
        signs = {parsed[1] for row in rows if (parsed := number(column, row)) is not None}
        if len(signs) > 1:
            raise UserError(f"{column}: some cells have a % sign and some have none")
        values = numbers(column, rows, times=reading.names[column].times, whole=False, signed=True)
        percent = options.unit == "percent" or name.percent or signs == {True}
        told = "" if options.unit in (None, *UNITS) else str(options.unit)
        unit = "%" if percent and options.unit in (None, "percent") else told
    words = f"{name.words}: this is what is compared"
    if name.qualifier in (BEST, LAST):
        words = f"{name.words} of the run's {name.qualifier} epoch: this is what is compared"
    if name.split is None and not reading.table.split.get(column):
        notes.append("of which images, the file does not say")
    notes.append(f"{better or 'higher'} is better")
    if name.qualifier == MEAN and column not in reading.table.split:
        reading.notes.append(
            f"{column} is a mean by its name: where a row is a mean of several runs, it counts as "
            "one run here"
        )
    reading.uses[column] = (
        f"{words} ({'; '.join([*([f'in {unit}'] if unit and not accuracy else []), *notes])})"
    )
    return Compared(
        column, name.words, name.name, name.split, better or "higher", unit, accuracy, values
    )


def _refuse_summaries(reading: Reading, column: str, name: FigureName) -> None:
    """Refuse rows that are means with their spread; note a spread beside a plain figure."""
    spreads = [
        other for other, other_name in reading.names.items()
        if other_name.figure and other_name.figure.qualifier == SPREAD and other != column
        and (other_name.figure.name, other_name.figure.split) == (name.name, name.split)
    ]  # fmt: skip
    if not spreads or reading.table.roles.get(column) == "objective":
        return
    if name.qualifier == MEAN:
        raise UserError(
            f"{column} and {spreads[0]}: are means and their spread, so each row is a summary of "
            "several runs; import the runs themselves"
        )
    reading.notes.append(
        f"{spreads[0]} stands beside {column}: where a row is a mean of several runs, it counts "
        "as one run here"
    )


def _read_figure(reading: Reading, column: str, name: FigureName) -> None:
    """Read a figure that is not compared; one that cannot be read is kept as it is."""
    prefix = {"validation": "val", "test": "test", "training": "train", None: None}[name.split]
    compared = reading.compared
    if prefix is None and name.name == "loss" and compared is not None:
        prefix = "test" if compared.split == "test" else "val"
    kind = {"accuracy": "accuracy", "loss": "loss"}.get(name.name)
    key = f"{prefix}_{kind}" if prefix and kind and name.qualifier in (None, BEST, LAST) else ""
    best = name.qualifier in (BEST, LAST)
    if not key or reading.figure(key, best=best) is not None:
        reading.keep(column, f"{name.words}: {KEPT}" if name.qualifier != SPREAD else KEPT)
        return
    values: Sequence[float | None]
    try:
        if kind == "accuracy":
            read = accuracies(column, reading.table.rows, percent=name.percent, unit=None)
            values = read.values
        else:
            values = numbers(
                column, reading.table.rows, times=reading.names[column].times, whole=False
            )
    except UserError as error:
        reading.keep(column, f"{name.words}: {KEPT}: {error}")
        return
    reading.figures.append(Figure(column, key, values, best))
    reading.uses[column] = name.words


def _read_cost(reading: Reading, column: str) -> None:
    """Read what a run costs, where trials have an attribute for it."""
    name = reading.names[column]
    if not name.key or reading.figure(name.key) is not None:
        return
    whole = name.key in WHOLE and name.times == 1
    try:
        values = numbers(column, reading.table.rows, times=name.times, whole=whole)
    except UserError as error:
        reading.uses[column] = f"{KEPT}: {error}"
        return
    if name.key == "parameters":
        values = [None if value is None else round(value) for value in values]
    reading.figures.append(Figure(column, name.key, values))
