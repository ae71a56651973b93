"""CSV that no spreadsheet computes."""

import csv
import io
from typing import Any

import pytest

from analysis.csv_text import csv_text


@pytest.mark.parametrize(
    "text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", '=HYPERLINK("x")', "--", "-"]
)
def test_a_formula_is_text(text: str) -> None:
    written = csv_text(["level", text], [{"level": text, text: 1.5}])
    heading, row = csv.reader(io.StringIO(written))
    assert (heading, row) == (["level", f"'{text}"], [f"'{text}", "1.5"])


@pytest.mark.parametrize("value", [-0.5, "-0.5", "+1e-3", "-inf", "a=b", "", None, True, 0])
def test_numbers_and_other_text_stay(value: Any) -> None:
    written = csv_text(["x", "y"], [{"x": value, "y": 1, "z": "left out"}])
    assert written.splitlines()[1] == f"{'' if value is None else value},1"
