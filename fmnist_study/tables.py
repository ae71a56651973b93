"""What the façade returns: tables that show themselves, as text, HTML or a DataFrame."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis import documents
from fmnist_study import html
from trainer.errors import UserError, choose

if TYPE_CHECKING:
    import pandas

    from analysis.tables.effects import EffectTable


@dataclass(frozen=True)
class Table:
    """A table of results. `str()` is what `fmnist-study report` prints."""

    document: documents.Document

    @property
    def frame(self) -> "pandas.DataFrame":
        """Its rows at full precision; accuracies and differences are fractions."""
        import pandas

        return pandas.read_csv(io.StringIO(self.document.csv()))

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form, a contract: keys are only ever added."""
        return self.document.as_dict()

    def render(self, format: str = "text") -> str:
        """Write it: text, markdown, csv, latex or json.

        Raises:
            UserError: it is another format.
        """
        if format not in documents.FORMATS:
            raise UserError(choose("format", format, documents.FORMATS))
        return documents.render(self.document, format)

    def __str__(self) -> str:
        return self.render()

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return html.page(self.document.page())


@dataclass(frozen=True, repr=False)
class Effects(Table):
    """The effects of levels, beside a forest plot of them."""

    document: "EffectTable"

    @property
    def effects(self) -> list[Mapping[str, Any]]:
        """A record for each level: `delta`, `delta_low`, `delta_high`, `p_adjusted`, ..."""
        return [vars(effect) for effect in self.document.effects]

    def _repr_html_(self) -> str:
        drawn = html.forest(self.document.effects, self.document.quantity)
        return f"{html.page(self.document.page(), notes=False)}\n{drawn}"


@dataclass(frozen=True)
class HiPlot:
    """A HiPlot page; in a notebook it stands in the output."""

    page: str  # the whole of it, HTML that loads nothing

    def __repr__(self) -> str:
        return f"<HiPlot page of {len(self.page):,} characters>"

    def _repr_html_(self) -> str:
        return html.frame(self.page)
