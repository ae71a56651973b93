"""A study that is in a database, read for Python: its trials, its results, its pages."""

import dataclasses
import os
import tempfile
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis import compare as comparing
from analysis import hiplot_page, trials
from analysis.designs import results
from analysis.tables.effects import EffectTable
from fmnist_study import arguments
from fmnist_study.tables import Effects, HiPlot, Table
from study.cli import common
from study.store import location
from trainer.errors import UserError

if TYPE_CHECKING:
    import pandas
    import sqlalchemy

    from analysis.summary.answers import Summary

_APART = ("history", "intermediate", "distributions", "confusion", "inference", "config", "params")


def load(name: str | None = None, *, storage: str | os.PathLike[str] | None = None) -> "Study":
    """Read a study.

    Args:
        name: of the study or of its plan; None: the one that ran last.
        storage: the database's file or URL; None: as the command line has it.

    Raises:
        UserError: there is no such database or study, or it is damaged.
    """
    if name is not None:
        arguments.word("name", name)
    url = location.locate(arguments.path("storage", storage))
    return Study(*common.read(url, name), url)


class Study:
    """A study as it was when it was read."""

    def __init__(
        self, study: trials.Study, records: list[trials.Trial], url: "sqlalchemy.URL"
    ) -> None:
        self._study, self._records, self._url = study, records, url

    @property
    def name(self) -> str:
        """Its name in the database."""
        return self._study.name

    @property
    def plan(self) -> dict[str, Any]:
        """Its plan, as stored; {} of a study of another tool."""
        return self._study.plan

    @cached_property
    def trials(self) -> "pandas.DataFrame":
        """A row for each trial, its params as columns `param.NAME`; accuracies are fractions."""
        import pandas

        names = [*(field.name for field in dataclasses.fields(trials.Trial)), "test_time_flip"]
        rows = [
            {name: getattr(trial, name) for name in names if name not in _APART}
            | {f"param.{name}": level for name, level in trial.params.items()}
            for trial in self._records
        ]
        return pandas.DataFrame(rows, columns=None if rows else names)

    @cached_property
    def epochs(self) -> "pandas.DataFrame":
        """A row for each epoch of each trial: `trial`, `variant`, `seed`, then its figures."""
        import pandas

        return pandas.DataFrame(
            [
                {"trial": trial.number, "variant": trial.label, "seed": trial.seed, **epoch}
                for trial in self._records
                for epoch in trial.history
            ]
        )

    @property
    def summary(self) -> "Summary":
        """What was found: `headline`, and `answers` to a reader's questions."""
        return results(self._study, self._records).summary()

    @property
    def best(self) -> dict[str, Any] | None:
        """The variant with the best mean so far: `variant`, `n`, `mean`, `std`; None without."""
        best = results(self._study, self._records).table.progress.best
        return None if best is None else dataclasses.asdict(best)

    def table(self, *, strict: bool = False) -> Table:
        """Return the table of the study's design.

        Args:
            strict: judge every comparison by its own values alone, and correct by Holm.
        """
        made = results(self._study, self._records, strict=strict).table
        return Effects(made) if isinstance(made, EffectTable) else Table(made)

    def ablation(self, *, strict: bool = False) -> Effects:
        """Return the effects of an ablation's levels.

        Raises:
            UserError: the study is of another design.
        """
        return self._of("ablation", strict)

    def factorial(self, *, strict: bool = False) -> Effects:
        """Return main effects and analysis of variance of a factorial.

        Raises:
            UserError: the study is of another design.
        """
        return self._of("factorial", strict)

    def _of(self, design: str, strict: bool) -> Effects:
        given = self.plan.get("design", "none")
        if given != design:
            raise UserError(
                f"study {self.name!r}: its design is {given}, not {design}: see table()"
            )
        return Effects(results(self._study, self._records, strict=strict).table)

    def compare(self, other: "Study") -> Table:
        """Compare with another study, variant by variant.

        Raises:
            UserError: it is no study.
        """
        if not isinstance(other, Study):
            raise UserError(f"other = {other!r}: must be a Study; load(NAME) returns one")
        mine = self._study, self._records
        return Table(comparing.compare(*mine, other._study, other._records))

    def report(self, folder: str | os.PathLike[str] | None = None) -> Path:
        """Write the report page to a folder, by default `reports/NAME`; return its path.

        Raises:
            UserError: the folder cannot be written.
        """
        given = arguments.path("folder", folder)
        out = None if given is None else Path(given)
        return common.write_report(results(self._study, self._records), self._url, out)[0]

    def hiplot(self) -> HiPlot:
        """Return the HiPlot page.

        Raises:
            UserError: there are no trials yet.
        """
        if not self._records:
            raise UserError(f"study {self.name!r}: has no trials yet, so there is no page")
        with tempfile.TemporaryDirectory() as folder:
            written = hiplot_page.write(self._study, self._records, Path(folder) / "hiplot.html")
            return HiPlot(written.read_text(encoding="utf-8"))

    def __repr__(self) -> str:
        design = self.plan.get("design", "no design")
        return f"<Study {self.name!r}: {design}, {len(self._records)} trials>"

    def _repr_html_(self) -> str:
        made = self.summary
        answers = "".join(
            f"<li><b>{escape(answer.question)}</b> {escape(' '.join(answer.sentences))}</li>"
            for answer in made.answers
        )
        headline = f"<p><b>{escape(made.headline)}</b></p>"
        shown = self.table()._repr_html_()
        return f"{headline}<ul>{answers}</ul>{shown}"
