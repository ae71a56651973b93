"""What the values of a study are: their name, unit and direction, and how they are shown.

Ours are validation accuracies: fractions, shown in per cent, differences in points, more is better.
An imported study may compare any figure; `plan.imported.figure` (docs/storage.md) says which.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from analysis import wording

VALIDATION_ACCURACY = "validation accuracy"


@dataclass(frozen=True)
class Quantity:
    """A figure that is compared."""

    name: str = VALIDATION_ACCURACY
    is_accuracy: bool = True  # a fraction, shown in per cent
    unit: str = "%"  # of what is shown; "" for a plain number
    lower_is_better: bool = False

    @property
    def noun(self) -> str:
        """What columns of it are headed."""
        return "accuracy" if self.is_accuracy else self.name

    @property
    def heading(self) -> str:
        """The noun as titles begin with it."""
        return self.noun[:1].upper() + self.noun[1:]

    @property
    def title(self) -> str:
        """What tables of it are headed: `Validation accuracy in %`."""
        heading = self.name[:1].upper() + self.name[1:]
        direction = ", lower is better" if self.lower_is_better else ""
        return f"{heading}{f' in {self.unit}' if self.unit else ''}{direction}"

    @property
    def axis(self) -> str:
        """What axes of it are called: `validation accuracy, %`."""
        return f"{self.name}, {self.unit}" if self.unit else self.name

    @property
    def points(self) -> str:
        """What differences are measured in: `points of validation accuracy`, `validation loss`."""
        return f"points of {self.name}" if self.unit == "%" else self.name

    @property
    def scale(self) -> float:
        """What a value is multiplied by to be shown."""
        return 100.0 if self.is_accuracy else 1.0

    def number(self, value: float | None, digits: int = 2) -> str:
        """Write a value without its unit; None as nothing. `digits` are those of per cent."""
        if value is None:
            return ""
        return f"{100 * value:.{digits}f}" if self.is_accuracy else _significant(value)

    def amount(self, value: float | None, digits: int = 2) -> str:
        """Write a value with its unit: `89.39 %`."""
        return f"{self.number(value, digits)}{f' {self.unit}' if self.unit else ''}"

    def signed(self, difference: float | None) -> str:
        """Write a difference with its sign; None as nothing."""
        if difference is None:
            return ""
        text = self.number(difference)
        return text if text.startswith("-") else f"+{text}"

    def gap(self, difference: float | None, *, sign: bool = False) -> str:
        """Write a difference for a sentence: `0.34 points`, `−0.012`."""
        text = self._told(difference or 0.0, sign=sign)
        return f"{text} points" if self.unit == "%" else f"{text}{self._of_unit}"

    @property
    def _of_unit(self) -> str:
        return f" {self.unit}" if self.unit else ""

    def bounds(self, low: float | None, high: float | None, *, sign: bool = True) -> str:
        """Write an interval of a difference in brackets, after a space; nothing without one."""
        if low is None or high is None:
            return ""
        ends = [self._told(end, sign=sign) for end in (low, high)]
        return f" (95 % interval {ends[0]} to {ends[1]})"

    def _told(self, difference: float, *, sign: bool) -> str:
        """Write a difference as sentences do: one of accuracies that is not 0 never as 0.00."""
        if self.is_accuracy:
            return wording.signed(difference) if sign else wording.size(difference)
        return self.signed(difference).replace("-", "−") if sign else self.number(abs(difference))

    def gain(self, difference: float | None) -> float | None:
        """Return a difference such that more of it is better."""
        return -difference if difference is not None and self.lower_is_better else difference


def record(quantity: Quantity, row: dict[str, Any]) -> dict[str, Any]:
    """Return a row's JSON form: `value_*` hold the compared figure, whatever it is.

    `val_accuracy_*` are the same of accuracies, and empty where the figure is none.
    """
    named = {name: row[name] for name in row if name.startswith("val_accuracy_")}
    values = {name.replace("val_accuracy", "value"): value for name, value in named.items()}
    return row | values | ({} if quantity.is_accuracy else dict.fromkeys(named))


def _significant(value: float) -> str:
    """Write a number with four digits that count, never in powers of ten for usual ones."""
    text = f"{value:.4g}"
    return text if "e" not in text or abs(value) < 1e-4 else f"{value:,.0f}"


ACCURACY = Quantity()


def quantity_of(plan: Mapping[str, Any]) -> Quantity:
    """Return what the values of a study with this plan are."""
    imported = plan.get("imported")
    if not imported:
        return ACCURACY
    figure = imported.get("figure")
    if not figure:  # imported before figures had a name of their own: an accuracy
        images = imported.get("selected_on")
        return Quantity(name=f"{images} accuracy" if images else "accuracy")
    return Quantity(
        name=figure["name"],
        is_accuracy=figure["accuracy"],
        unit=figure["unit"],
        lower_is_better=figure["better"] == "lower",
    )
