"""Tables for other programs: every value as it is, no text that a spreadsheet computes."""

import csv
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from analysis.exports.records import Records, epoch_records, trial_records
from analysis.exports.tables import FORMATS, CannotWrite, write
from analysis.trials import Study, Trial
from tests.support.studies import POOLING, ablation_trials, plan, read, trial

LEVELS = st.one_of(st.text(), st.floats(), st.integers(-(2**53), 2**53), st.booleans(), st.none())
FORMULA = ("=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1")


def mixed(folder: Path) -> tuple[Study, list[Trial]]:
    values = {"baseline": [0.1 + 0.2, 2 / 3], "pooling=avg": [0.93, 0.31]}
    return read(
        folder,
        [
            *ablation_trials(POOLING, values),
            trial(POOLING, {"pooling": "avg"}, 2, 0.7, state=TrialState.PRUNED),
            trial(POOLING, {"batchnorm": False}, 0, None, state=TrialState.FAIL,
                  failure_reason="=1+1, it said"),
        ],
        POOLING,
    )  # fmt: skip


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_trial_of_any_state_is_a_row_and_an_epoch_a_row_of_its_own(tmp_path: Path) -> None:
    study, trials = mixed(tmp_path)
    records = trial_records(study, trials)
    assert [row["state"] for row in records.rows] == ["COMPLETE"] * 4 + ["PRUNED", "FAIL"]
    assert records.columns[:6] == ["trial", "state", "variant", "seed", "pooling", "batchnorm"]
    assert records.rows[0]["val_accuracy"] == 0.1 + 0.2
    epochs = epoch_records(trials)
    assert [(row["trial"], row["epoch"]) for row in epochs.rows] == [
        (own.number, epoch) for own in trials for epoch in own.intermediate
    ]


def test_csv_and_json_keep_every_digit(tmp_path: Path) -> None:
    study, trials = mixed(tmp_path)
    tables = {"trials": trial_records(study, trials), "epochs": epoch_records(trials)}
    write(tmp_path, "study", tables, "csv")
    (path,) = write(tmp_path, "study", tables, "json")
    stored = json.loads(path.read_text(encoding="utf-8"))
    for name, table in tables.items():
        rows = read_csv(tmp_path / f"{name}.csv")
        assert len(rows) == len(stored[name]) == len(table.rows)
        for ours, text, words in zip(table.rows, rows, stored[name], strict=True):
            assert words == {column: ours.get(column) for column in table.columns}
            for column, cell in text.items():
                value = ours.get(column)
                if isinstance(value, float | int) and not isinstance(value, bool):
                    assert float(cell) == value
                elif value is None:
                    assert cell == ""


@given(st.lists(LEVELS, min_size=1, max_size=5))
@settings(max_examples=40, deadline=None)
def test_any_level_survives_json_and_any_format_is_written(levels: list[Any]) -> None:
    import tempfile

    table = Records(["level"], [{"level": level} for level in levels])
    with tempfile.TemporaryDirectory() as folder:
        for format in FORMATS:
            paths = write(Path(folder), "study", {"trials": table}, format)
            assert all(path.stat().st_size for path in paths)
        stored = json.loads((Path(folder) / "study.json").read_text(encoding="utf-8"))["trials"]
    for level, row in zip(levels, stored, strict=True):
        if isinstance(level, float) and not math.isfinite(level):
            assert row["level"] == str(level)
        elif not isinstance(level, str) or level.isascii():
            assert row["level"] == level


@pytest.mark.parametrize("text", FORMULA)
def test_no_text_is_a_formula(text: str, tmp_path: Path) -> None:
    from openpyxl import load_workbook

    table = Records(["level", "change"], [{"level": text, "change": -0.5}])
    write(tmp_path, "study", {"trials": table}, "csv")
    (row,) = read_csv(tmp_path / "trials.csv")
    assert row == {"level": f"'{text}", "change": "-0.5"}
    (path,) = write(tmp_path, "study", {"trials": table}, "xlsx")
    cell, number = load_workbook(path)["trials"][2]
    assert (cell.data_type, number.value) == ("s", -0.5)
    assert cell.value == text.replace("\t", r"\t").replace("\r", r"\r")


def test_parquet_keeps_types_and_writes_levels_of_several_as_text(tmp_path: Path) -> None:
    from pyarrow import parquet

    rows: list[dict[str, Any]] = [
        {"rate": 1, "level": "none", "on": True},
        {"rate": 0.5, "level": 3, "on": None},
    ]
    write(tmp_path, "study", {"trials": Records(["rate", "level", "on"], [*rows])}, "parquet")
    assert parquet.read_table(tmp_path / "trials.parquet").to_pylist() == [
        {"rate": 1.0, "level": "none", "on": True},
        {"rate": 0.5, "level": "3", "on": None},
    ]


@pytest.mark.parametrize(("format", "package"), [("parquet", "pyarrow"), ("xlsx", "openpyxl")])
def test_a_missing_package_is_named_with_its_extra(
    format: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(CannotWrite, match=rf"{package}: pip install 'fmnist-study\[export\]'"):
        write(tmp_path / "new", "study", {"trials": Records([], [])}, format)
    assert not (tmp_path / "new").exists()


def test_a_factor_that_is_named_like_a_figure_has_a_column_of_its_own(tmp_path: Path) -> None:
    of = plan({"seconds": [1, 2]}, {"seconds": 1})
    study, trials = read(tmp_path, [trial(of, {"seconds": 2}, 0, 0.5)], of)
    records = trial_records(study, trials)
    assert records.rows[0]["seconds (factor)"] == 2
    assert records.rows[0]["seconds"] == trials[0].seconds
