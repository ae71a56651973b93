"""`report --html`, `report --figures` and `compare`, as a user types them."""

import json
import sys
from pathlib import Path

import optuna
import pytest

from tests.support.browser import needs_chromium
from tests.support.commands import call
from tests.support.studies import POOLING, ablation_trials, database

VALUES = {"baseline": [0.90, 0.91, 0.92], "pooling=avg": [0.93, 0.945, 0.949]}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FMNIST_STUDY_STORAGE", raising=False)
    database(tmp_path, ablation_trials(POOLING, VALUES), of=POOLING, name="a")
    database(tmp_path, ablation_trials(POOLING, VALUES), of=POOLING | {"epochs": 9}, name="b")
    return tmp_path


def test_html_writes_the_page_beside_the_table(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("report", "a", "--html") == 0
    assert "report page: reports/a/report.html" in capsys.readouterr().out
    page = (folder / "reports" / "a" / "report.html").read_text(encoding="utf-8")
    assert "<title>a</title>" in page
    assert 'href="hiplot.html"' not in page
    # The findings of `lint` are on it.
    assert '<section id="checks">' in page


def test_the_page_links_the_hiplot_page_that_is_written_with_it(folder: Path) -> None:
    assert call("report", "a", "--html", "--hiplot", "--out", "pages") == 0
    assert (folder / "pages" / "hiplot.html").exists()
    assert 'href="hiplot.html"' in (folder / "pages" / "report.html").read_text(encoding="utf-8")


def test_a_format_for_machines_stays_parseable(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("report", "a", "--html", "--format", "json") == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["study"] == "a"
    assert "report page:" in said.err


def test_all_prints_every_table_and_else_the_first_screen_names_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("report", "a", "--storage", "./studies.db") == 0
    short = capsys.readouterr().out
    assert "\nthe rest: fmnist-study report a --all\n" in short
    assert "Validation accuracy in %" not in short
    assert call("report", "a", "--all") == 0
    whole = capsys.readouterr().out
    assert short.splitlines()[1] in whole.splitlines()  # the headline
    assert "Validation accuracy in %" in whole
    (folder / "studies.db").rename(folder / "mine.db")
    assert call("report", "--storage", "mine.db") == 0
    assert "the rest: fmnist-study report b --storage mine.db --all\n" in capsys.readouterr().out


@needs_chromium
@pytest.mark.slow
def test_figures_are_written_as_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("report", "a", "--figures", "svg") == 0
    written = sorted(path.name for path in (folder / "reports" / "a" / "figures").iterdir())
    assert "forest.svg" in written
    assert "trials-1-pooling.svg" in written
    assert f"{len(written)} figures: reports/a/figures" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("report", "a", "--figures", "gif"), "--figures = 'gif': choose from png, svg, pdf"),
        (("compare", "a", "c"), "study = 'c': choose from a, b"),
        (("compare", "c", "a"), "study = 'c': choose from a, b"),
        (("compare", "a", "b", "--format", "xml"), "--format = 'xml': choose from text"),
    ],
)
def test_mistakes_are_named_with_what_is_valid(
    folder: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    assert call(*words) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert len(said.err.splitlines()) == 1
    assert said.out == ""


def test_figures_without_kaleido_say_how_to_get_it(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "kaleido", None)
    assert call("report", "a", "--figures", "svg") == 2
    assert "--figures svg: needs Kaleido: pip install" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "file").write_text("")
    assert call("report", "a", "--html", "--out", "file") == 2
    assert "file: cannot be written" in capsys.readouterr().err


def test_a_study_whose_name_leads_out_of_the_folder_needs_one(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database(folder, ablation_trials(POOLING, VALUES), of=POOLING, name="../../evil")
    assert call("report", "../../evil", "--html") == 2
    assert "leads out of reports/" in capsys.readouterr().err


def test_a_plan_that_is_no_longer_valid_still_has_a_page(folder: Path) -> None:
    own = optuna.load_study(study_name="a", storage=f"sqlite:///{folder / 'studies.db'}")
    own.set_user_attr("plan", POOLING | {"factors": {"pooling": ["max", "sum"]}})
    assert call("report", "a", "--html") == 0
    page = (folder / "reports" / "a" / "report.html").read_text(encoding="utf-8")
    assert "not-checked" in page


def test_compare_prints_what_differs_and_what_that_did(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("compare", "a", "b", "--format", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["differing"] == [{"what": "epochs", "first": 2, "second": 9}]
    assert [own["delta"] for own in found["common"]] == [0, 0]
