"""Figures of image and mirror image (`test_time_flip`) are marked wherever they are shown."""

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.mirrored import MARK, NOTE, WORDS
from tests.support.commands import call, run_in

PLAN = """
name = "flips"
dataset = "digits"
seeds = 2
epochs = 1
subset = 300
[baseline]
width = 4
depth = 1
batch_size = 32
ema = 0.9
test_time_flip = true
[[variants]]
factor = "looks"
level = "wide, both"
changes = { width = 8 }
[[variants]]
factor = "looks"
level = "single"
changes = { test_time_flip = false, learning_rate = 1e-6 }
"""
Printed = Callable[..., str]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_in(tmp_path_factory.mktemp("flips"), "flips.toml", PLAN)


@pytest.fixture
def folder(ran: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(ran)
    monkeypatch.delenv("FMNIST_STUDY_STORAGE", raising=False)
    return ran


@pytest.fixture
def printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> Printed:
    def run(*words: str) -> str:
        capsys.readouterr()
        assert call(*words) == 0
        return capsys.readouterr().out

    return run


def rows_with_mark(text: str, mark: str = MARK) -> list[str]:
    return [line for line in text.splitlines() if re.search(rf"\d {re.escape(mark)}", line)]


@pytest.mark.parametrize("words", [(), ("--all",)], ids=["first screen", "all tables"])
def test_tables_mark_the_rows_that_have_it(words: tuple[str, ...], printed: Printed) -> None:
    text = printed("report", "flips", *words)
    base, wide = rows_with_mark(text)
    assert base.startswith(("baseline", "  baseline"))
    assert "wide, both" in wide
    assert "single" in text
    assert NOTE in " ".join(text.split())


@pytest.mark.parametrize(("format", "mark"), [("markdown", MARK), ("latex", r"\dag{}")])
def test_documents_mark_them(format: str, mark: str, printed: Printed) -> None:
    text = printed("report", "flips", "--format", format)
    assert len(rows_with_mark(text, mark)) == 2
    assert "mirror image" in text


def test_records_have_a_column(printed: Printed, folder: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(printed("report", "flips", "--format", "csv"))))
    assert {row["level"]: row["test_time_flip"].lower() for row in rows} == {
        "": "true", "wide, both": "true", "single": "false",
    }  # fmt: skip
    document = json.loads(printed("report", "flips", "--json"))
    assert [effect["test_time_flip"] for effect in document["effects"]] == [True, False]
    assert document["baseline"]["test_time_flip"] is True
    printed("export", "flips", "out", "--format", "csv")
    with (folder / "out" / "trials.csv").open() as file:
        flips = {trial["variant"]: trial["test_time_flip"] for trial in csv.DictReader(file)}
    assert sorted(flips.values()) == ["false", "true", "true"]
    assert flips["baseline"] == "true"
    printed("export", "flips", "--trial", "0", "zero")
    assert json.loads((folder / "zero" / "result.json").read_text())["test_time_flip"] is True


def test_the_pages_mark_them(printed: Printed, folder: Path) -> None:
    printed("report", "flips", "--html", "--hiplot", "--out", "pages")
    (page,) = (p for p in (folder / "pages").glob("*.html") if "hiplot" not in p.name)
    assert re.search(rf"\d\.\d\d [^<]*{MARK}", page.read_text())
    assert NOTE in page.read_text()
    (hiplot,) = (folder / "pages").glob("*hiplot*.html")
    assert '"test_time_flip": "true"' in hiplot.read_text().replace('\\"', '"')


def test_the_winner_its_export_and_the_ensemble_say_it(printed: Printed, folder: Path) -> None:
    assert WORDS in printed("best", "flips", "--export", "winner")
    assert json.loads(printed("best", "flips", "--json"))["test_time_flip"] is True
    evaluated = printed("evaluate", "winner")
    assert "The test accuracy is the one that was stored" in " ".join(evaluated.split())
    assert "mirror image" in evaluated
    assert json.loads(printed("evaluate", "winner", "--json"))["test_time_flip"] is True
    assert len(rows_with_mark(printed("ensemble", "flips", "--top", "2"))) == 3
    members = json.loads(printed("ensemble", "flips", "--top", "2", "--json"))["members"]
    assert [member["test_time_flip"] for member in members] == [True, True]


@pytest.mark.slow
def test_trainings_with_flips_and_averages_repeat_to_the_bit(printed: Printed) -> None:
    document = json.loads(printed("verify", "flips", "--retrain", "2", "--json"))
    assert {check["state"] for check in document["checks"]} == {"ok"}, document
