"""When the trainings of a study ran."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from analysis.designs import results
from analysis.provenance import facts
from analysis.trials import Study, Trial, connect, studies, trials
from tests.support.studies import POOLING, database, trial

BEGIN = datetime(2026, 1, 2)  # Optuna stores UTC without a zone
COPY = {"reused": {"study": "earlier", "number": 7}}
IMPORTED = POOLING | {"imported": {"file": "runs.csv", "kind": "a text table"}}


def stored(
    folder: Path, spans: Sequence[tuple[float, float]], of: dict[str, Any] = POOLING, **more: Any
) -> tuple[Study, list[Trial]]:
    """Store trainings of 12.5 seconds that began and ended so many seconds after BEGIN."""
    rows = []
    for seed, (start, end) in enumerate(spans):
        row = trial(of, {}, seed, 0.9, **(more if seed % 2 else {}))
        row.datetime_start = BEGIN + timedelta(seconds=start)
        row.datetime_complete = BEGIN + timedelta(seconds=end)
        rows.append(row)
    engine = connect(database(folder, rows, of=of))
    [study] = studies(engine)
    return study, trials(engine, study.id)


@pytest.mark.parametrize(
    ("spans", "wall"),
    [
        ([(0, 0.01), (0.01, 0.02)], "0.0 s, for 2 trainings of 25 s in all"),  # a fast machine
        ([(0, 5), (3, 9)], "9.0 s, for 2 trainings of 25 s in all"),  # side by side
        ([(0, 9), (3, 5)], "9.0 s, for 2 trainings of 25 s in all"),
        ([(0, 5), (100, 104)], "9.0 s, for 2 trainings of 25 s in all"),  # a pause between runs
        ([(100, 104), (0, 5)], "9.0 s, for 2 trainings of 25 s in all"),
    ],
)
def test_wall_time_is_how_long_anything_was_trained(
    tmp_path: Path, spans: list[tuple[float, float]], wall: str
) -> None:
    study, found = stored(tmp_path, spans)
    assert dict(facts(study, found))["Wall time"] == wall
    told = results(study, found).summary()
    took = f"took 25 s in all on cpu, within {wall.partition(',')[0]} of wall time."
    assert took in " ".join(sentence for answer in told.answers for sentence in answer.sentences)


def test_trials_that_another_study_trained_count_no_wall_time_here(tmp_path: Path) -> None:
    study, found = stored(tmp_path, [(0, 5), (900, 999), (3, 9), (900, 999)], **COPY)
    known = dict(facts(study, found))
    assert known["Wall time"] == "9.0 s, for 2 trainings of 25 s in all"
    assert known["Trained"] == "2026-01-02 00:00 to 2026-01-02 00:00 UTC"


def test_nobody_knows_when_imported_results_were_trained(tmp_path: Path) -> None:
    study, found = stored(tmp_path, [(0, 5), (3, 9)], of=IMPORTED)
    assert not {"Wall time", "Trained"} & {name for name, _ in facts(study, found)}
