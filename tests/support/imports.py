"""Results of others for tests: from text to a study, and to rows as a report reads them."""

import tempfile
from pathlib import Path
from typing import Any

from analysis.trials import Study, Trial, connect, studies, trials
from study.importing import ImportedStudy, Options, Table, make_study, read_table, store
from study.store import location

OPTIONS = frozenset(Options.__dataclass_fields__)


def table_of(text: str | bytes, name: str = "results.csv") -> Table:
    """Read a file of this content and name."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_table(path)


def study_of(table: Table, **given: Any) -> ImportedStudy:
    """Make a study of a table; `given` are options of the user and arguments of `make_study`."""
    options = Options(**{name: own for name, own in given.items() if name in OPTIONS})
    rest = {name: own for name, own in given.items() if name not in OPTIONS}
    return make_study(table, **{"name": "theirs", "options": options, **rest})


def imported(path: Path, content: str | Path, **given: Any) -> ImportedStudy:
    """Make a study of a file's content, or of a file that is there."""
    if isinstance(content, str):
        path = path / "results.csv" if path.is_dir() else path
        path.write_text(content, encoding="utf-8")
        content = path
    return study_of(read_table(content), **given)


def stored(made: ImportedStudy, folder: Path) -> tuple[Study, list[Trial]]:
    """Write a study, and read it as a report does."""
    url = location.locate(str(folder / "studies.db"))
    store(made, url, "import")
    engine = connect(url)
    (study,) = [study for study in studies(engine) if study.name == made.name]
    return study, trials(engine, study.id)


def values(made: ImportedStudy) -> list[float | None]:
    """Return the compared figure of every trial."""
    return [trial.value for trial in made.trials]
