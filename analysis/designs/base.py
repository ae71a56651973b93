"""What a design is to those who show a study: a table, a summary, and sections of the page."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Generic, Protocol, TypeVar

from analysis.documents import Document
from analysis.page.parts import Section
from analysis.progress import Progress
from analysis.summary.answers import (
    MISSING,
    Sentences,
    Summary,
    missing,
    nothing_finished,
    summary,
)
from analysis.tables.brief import Brief
from analysis.trials import Study, Trial, finished


class StudyTable(Document, Protocol):
    """A table of a study: a document that says how far the study is."""

    @property
    def progress(self) -> Progress:
        """Trials by state, what is planned, what is best so far."""

    @property
    def facts(self) -> list[str]:
        """What was run, and how much of it is there."""

    @property
    def notes(self) -> list[str]:
        """What a reader must know to read the figures."""


Table = TypeVar("Table", bound=StudyTable)


class Results(ABC, Generic[Table]):
    """The results of a study of one design, computed once from its trials."""

    title: ClassVar[str]  # what kind of study it is, on the page

    def __init__(self, study: Study, trials: Sequence[Trial], *, strict: bool = False) -> None:
        """Compute the table of a study from all of its trials.

        Args:
            study: of this design.
            trials: all of its trials, of any state.
            strict: judge every comparison by its own values alone, and correct by Holm.
        """
        self.study = study
        self.strict = strict
        self.trials = trials
        self.table = self.compute()

    @abstractmethod
    def compute(self) -> Table:
        """Compute the table."""

    @abstractmethod
    def answers(self) -> tuple[str, Sentences]:
        """Return a headline and the answers to a reader's questions; a trial has finished."""

    @abstractmethod
    def brief(self) -> Brief | None:
        """Return the one table that is shown first; None: there is nothing to show."""

    @abstractmethod
    def sections(self, folder: Path | None, hiplot: str | None) -> list[Section]:
        """Return what the page shows of the results.

        Args:
            folder: where the database is, which checkpoints lie beside; None: no such folder.
            hiplot: address of the HiPlot page, if there is one.
        """

    def summary(self) -> Summary:
        """Answer a reader's questions, however far the study is."""
        now = self.table.progress
        rest = {MISSING: missing(now, self.trials)}
        if not finished(self.trials):
            return summary(nothing_finished(now), rest)
        headline, sentences = self.answers()
        return summary(headline, {**sentences, **rest})
