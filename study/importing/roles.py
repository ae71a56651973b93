"""Which column is which figure, which one is compared, and which may be factors."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from study.importing.columns import STATES, Name, fractions, numbers, understand
from study.importing.sheet import Sheet
from trainer.errors import UserError, choose

ACCURACIES = ("val_accuracy", "accuracy", "test_accuracy")  # the first that is there is compared
SELECTED_ON = {"val_accuracy": "validation", "test_accuracy": "test"}
WORDS = {
    "val_accuracy": "validation accuracy",
    "test_accuracy": "test accuracy",
    "train_accuracy": "training accuracy",
    "accuracy": "accuracy (of which images, the file does not say)",
    "val_loss": "validation loss",
    "test_loss": "test loss",
    "train_loss": "training loss",
    "latency_ms": "latency in ms",
    "images_per_second": "images per second",
    "best_epoch": "best epoch",
    "epochs": "epochs trained",
}
WHOLE = frozenset({"parameters", "epochs", "epoch", "best_epoch"})


@dataclass(frozen=True)
class Figure:
    """A column that holds a figure of each row."""

    column: str
    key: str  # such as "val_accuracy" or "seconds"
    best: bool  # of the run's best or last epoch, not of the row's own
    values: Sequence[float | int | None]


@dataclass
class Roles:
    """What each column is. `uses` says it in words."""

    compared: str = ""  # key of the accuracy that is compared
    metric: str = ""  # its column
    figures: list[Figure] = field(default_factory=list)
    candidates: list[str] = field(default_factory=list)  # factors, where they vary
    seed: str | None = None
    run: str | None = None
    state: str | None = None
    kept: list[str] = field(default_factory=list)  # names, remarks, figures of no use here
    uses: dict[str, str] = field(default_factory=dict)

    def figure(self, key: str, *, best: bool = False) -> Figure | None:
        """Return the column of a figure, if there is one."""
        return next((own for own in self.figures if (own.key, own.best) == (key, best)), None)

    def has(self, key: str) -> bool:
        """Whether a column holds this figure."""
        return any(own.key == key for own in self.figures)


Found = dict[tuple[str, bool], list[tuple[str, Name]]]  # (key, best) -> columns that say so


def assign(sheet: Sheet, metric: str | None, factors: Sequence[str] | None) -> Roles:
    """Give every column its role.

    Args:
        sheet: the table.
        metric: the column to compare; None: validation before unnamed before test accuracy.
        factors: the columns that are factors; None: those not known as anything else.

    Raises:
        UserError: there is no accuracy, two columns are the same one, or a cell is no number.
    """
    for option, given in (("--metric", [metric] if metric else []), ("--factors", factors or [])):
        for column in given:
            if column not in sheet.columns:
                raise UserError(choose(option, column, list(sheet.columns)))
    roles = Roles(uses={column: f"left out: {why}" for column, why in sheet.left_out.items()})
    found: Found = {}
    for column in sheet.columns:
        if column == metric:
            continue
        if column in (factors or ()):
            roles.candidates.append(column)
        else:
            _sort(sheet, roles, column, found, others_are_factors=factors is None)
    if metric is None:
        _choose_metric(sheet, roles, [key for key, _ in found])
    else:
        _take_metric(roles, metric, found)
    _rename(roles, found)
    for (key, best), columns in found.items():
        if key == "accuracy" != roles.compared:  # of images unknown, beside what is compared
            _keep(roles, columns)
            continue
        columns.sort(key=lambda one: "error" in str(one[1].role))
        (own, name), *others = columns
        twice = next((column for column, one in others if "error" not in str(one.role)), None)
        if twice is not None:
            raise UserError(
                f"columns {own!r} and {twice!r}: both are {WORDS.get(key, key)}; leave one out "
                "of the file, or choose the one to be compared with --metric"
            )
        _keep(roles, others)
        _read(sheet, roles, own, name, key, best=best)
    return roles


def _sort(
    sheet: Sheet, roles: Roles, column: str, found: Found, *, others_are_factors: bool
) -> None:
    name = understand(column)
    role = name.role
    if role == "state" and not {str(cell).lower() for cell in sheet.column(column)} & {*STATES}:
        role = None  # it is called so, but says something else
    if role is None and others_are_factors:
        roles.candidates.append(column)
    elif role is None:
        roles.uses[column] = "left out: not among --factors"
    elif role in ("seed", "run", "state") and getattr(roles, role) is None:
        setattr(roles, role, column)
        roles.uses[column] = {"seed": "seed", "run": "run", "state": "state of the run"}[role]
    elif role in ("seed", "run", "state", "identity", "remark", "other"):
        _keep(roles, [(column, name)])
    else:
        found.setdefault((_key(name), name.best), []).append((column, name))


def _keep(roles: Roles, columns: Iterable[tuple[str, Name]]) -> None:
    for column, _ in columns:
        roles.kept.append(column)
        roles.uses[column] = "kept with each trial, not used"


def _key(name: Name) -> str:
    return str(name.role).replace("error", "accuracy")


def _choose_metric(sheet: Sheet, roles: Roles, keys: Collection[str]) -> None:
    compared = next((key for key in ACCURACIES if key in keys), None)
    if compared is None:
        raise UserError(
            "has no column of accuracies (such as val_accuracy or test_acc): name it with "
            f"--metric; the columns are {', '.join(sheet.columns)}"
        )
    roles.compared = compared


def _take_metric(roles: Roles, metric: str, found: Found) -> None:
    name = understand(metric)
    key = _key(name) if "accuracy" in _key(name) else "accuracy"
    if key == "train_accuracy":
        raise UserError(f"--metric {metric}: accuracy on training images ranks nothing")
    role = "error" if "err" in metric.lower() else key
    for best in (False, True):
        _keep(roles, found.pop((key, best), []))
    found[key, False] = [(metric, replace(name, role=role, best=False, unit=Decimal(1)))]
    roles.compared = key


def _rename(roles: Roles, found: Found) -> None:
    """Decide which images an `accuracy` or `loss` without a split's name is measured on.

    Beside a validation figure it is of the training images, as Keras writes it; else the loss is
    of those that the compared accuracy is measured on.
    """
    taken = {"accuracy": "train_accuracy", "loss": "train_loss"}
    if roles.compared != "val_accuracy" and not any(key == "val_loss" for key, _ in found):
        taken = {"loss": "test_loss" if roles.compared == "test_accuracy" else "val_loss"}
    for old, new in taken.items():
        for best in (False, True):
            columns = found.pop((old, best), []) if old != roles.compared else []
            if (new, best) in found:
                _keep(roles, columns)
            elif columns:
                found[new, best] = columns


def _read(sheet: Sheet, roles: Roles, column: str, name: Name, key: str, *, best: bool) -> None:
    words = WORDS.get(key, key)
    if best:
        words = f"{words} of the run's best or last epoch"
    values: Sequence[float | int | None]
    if "accuracy" in key:
        error = "error" in str(name.role)
        read = fractions(column, sheet.rows, percent=name.percent, error=error)
        values = read.values
        made = ["percentages, divided by 100"] if read.percent else []
        made += ["error rates, taken from 1"] if error else []
        words += f" ({'; '.join(made)})" if made else ""
        if key == roles.compared:
            words += ": this is what is compared"
            roles.metric = column
    else:
        try:
            values = numbers(column, sheet.rows, unit=name.unit, whole=key in WHOLE)
        except UserError as error:
            if "loss" in key or key == "epoch":
                raise
            roles.uses[column] = f"kept with each trial, not used: {error}"
            roles.kept.append(column)
            return
        words += f" (times {name.unit})" if name.unit != 1 else ""
    roles.figures.append(Figure(column, key, best, values))
    roles.uses[column] = words
