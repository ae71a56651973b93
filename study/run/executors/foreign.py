"""Trainings that are not ours: a function or a command of the user's, told its config.

It reports epochs, is told when to stop, and returns figures. What it does not say is absent.
"""

import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from study.run.executors.command import Talk
from trainer import user_code
from trainer.config import TOLD, TrainConfig
from trainer.errors import UserError, choose
from trainer.progress import advance
from trainer.results import Epoch, Result

Watch = Callable[[Mapping[int, Epoch]], Collection[int]]
COURSE = ("val_loss", "train_loss", "train_accuracy", "learning_rate")  # of an epoch, if known
FRACTIONS = ("val_accuracy", "train_accuracy", "test_accuracy")
COUNTS = ("parameters", "multiply_adds", "model_bytes")
FIGURES = ("val_accuracy", "test_accuracy", "test_loss", "latency_ms", "confusion", *COUNTS)
_NEEDED = ("test_accuracy", "test_loss", "parameters", "latency_ms")  # None where not returned


class TrainingFailed(Exception):  # noqa: N818 # what it is, not what kind of error
    """A training of the user's raised, or its program ended badly; says it in a line."""


class _Stop(BaseException):
    """Ends a function that goes on although it was told to stop; not to be caught by it."""


@dataclass(frozen=True)
class ForeignTraining:
    """Where and with how many threads the user's trainings run."""

    device: str
    threads: int

    def train(self, config: TrainConfig, on_epoch: Watch) -> Result:
        """Train; `on_epoch` is as of `trainer.train`.

        Raises:
            UserError: what is reported or returned is none of what it may be.
            TrainingFailed: the function raised, or the command ended badly.
        """
        started = time.perf_counter()
        course = _Course(config.epochs, on_epoch)
        told = {name: getattr(config, name) for name in TOLD}
        told |= {"device": self.device, **config.options_of("trainer_options")}
        if config.command:
            talk = Talk(config.command, self.threads)
            figures = talk.train(told, course.report, TrainingFailed)
        else:
            figures = _call(config.trainer, told, course)
        return course.result(figures, self.device, time.perf_counter() - started)


def _call(reference: str, told: Mapping[str, Any], course: "_Course") -> Any:
    function = user_code.load("trainer", reference)
    try:
        return function(told, course.report)
    except _Stop:
        return None
    except Exception as error:
        if isinstance(error, (UserError, MemoryError)) or error is course.broken:
            raise
        raise TrainingFailed(user_code.said(error)) from error
    except SystemExit as error:
        raise TrainingFailed(user_code.said(error)) from error


class _Course:
    """The epochs of a training as it reports them."""

    def __init__(self, epochs: int, on_epoch: Watch) -> None:
        self.epochs, self.on_epoch = epochs, on_epoch
        self.history: list[Epoch] = []
        self.stopped = False
        self.broken: Exception | None = None  # nobody listens any more
        self.began = time.perf_counter()

    def report(self, epoch: int, val_accuracy: float, **more: float) -> bool:
        """Take an epoch; return whether the training is to stop here.

        Args:
            epoch: 1, 2, 3, ...
            val_accuracy: a fraction of 1; NaN: it has diverged.
            more: as far as they are known: `COURSE`.

        Raises:
            UserError: a figure is none of what it may be.
        """
        if self.stopped:
            raise _Stop
        if epoch != len(self.history) + 1 or epoch > self.epochs:
            raise UserError(
                f"epoch = {epoch!r}: the epochs of a training are reported in turn, 1 to "
                f"{self.epochs}; the next is {len(self.history) + 1}"
            )
        figures = {name: _number(name, value, COURSE) for name, value in more.items()}
        accuracy = _number("val_accuracy", val_accuracy)
        now = time.perf_counter()
        taken = {name: figures.get(name) for name in COURSE}
        last = Epoch(int(epoch), val_accuracy=accuracy, seconds=now - self.began, **taken)
        self.history.append(last)
        self.began = now
        advance()
        try:
            verdict = self.on_epoch({0: last})
        except Exception as error:
            self.broken = error
            raise
        self.stopped = bool(verdict) or not last.is_finite
        return self.stopped

    def result(self, figures: Any, device: str, seconds: float) -> Result:
        """Sum the course up with what was returned.

        Raises:
            UserError: that is no mapping of figures, or there is no validation accuracy.
        """
        returned = _figures({} if figures is None else figures)
        accuracy = returned.pop("val_accuracy", None)
        if not self.history:
            if accuracy is None:
                raise UserError("val_accuracy: the training neither reported nor returned it")
            self.report(1, accuracy)
        finite = [epoch for epoch in self.history if epoch.is_finite]
        best = max(finite, key=lambda epoch: epoch.val_accuracy, default=None)
        diverged = len(finite) < len(self.history)
        outcome = "diverged" if diverged else "stopped" if self.stopped else "finished"
        if outcome != "finished":
            returned = {name: returned.get(name) for name in COUNTS}
        return Result(
            outcome=outcome,
            history=tuple(self.history),
            best_epoch=best.epoch if best else None,
            val_accuracy=best.val_accuracy if best else None,
            val_loss=best.val_loss if best else None,
            seconds=seconds,
            images_per_second=None,
            device=device,
            precision=None,
            bank=1,
            state=None,
            **{
                **dict.fromkeys(_NEEDED),
                **returned,
            },
        )


def _figures(given: Any) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        kind = type(given).__name__
        raise UserError(f"the training returned {kind}: must be figures by name, or nothing")
    figures: dict[str, Any] = {}
    for name, value in given.items():
        if name == "confusion":
            figures[name] = {"test": _confusion(value)}
        else:
            number = _number(name, value, FIGURES)
            figures[name] = int(number) if name in COUNTS else number
    return figures


def _number(name: str, value: Any, valid: Collection[str] = ()) -> float:
    if valid and name not in valid:
        raise UserError(choose("figure", name, tuple(valid)))
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name} = {value!r}: must be a number") from error
    if name in FRACTIONS and not math.isnan(number) and not 0 <= number <= 1:
        raise UserError(f"{name} = {value!r}: must be a fraction, from 0 to 1")
    course = (*COURSE, "val_accuracy")  # in which a number that is none tells of divergence
    if name not in course and not (math.isfinite(number) and number >= 0):
        raise UserError(f"{name} = {value!r}: must be a finite number, at least 0")
    return number


def _confusion(value: Any) -> list[list[int]]:
    try:
        rows = [[int(count) for count in row] for row in value]
    except (TypeError, ValueError):
        rows = []
    square = len(rows) > 1 and all(len(row) == len(rows) and min(row) >= 0 for row in rows)
    if not square:
        raise UserError("confusion: must be counts of test images, [true class][predicted class]")
    return rows
