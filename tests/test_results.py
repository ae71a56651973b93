"""Every figure in README and docs/results.md is computed from the published studies."""

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from study.cli.findings import findings
from study.plans.plan import load_plan
from tests.support.house import ROOT
from tests.support.studies import database, published_names, trial

sys.path.insert(0, str(ROOT / "docs"))

pages: Any = importlib.import_module("results")  # docs/results.py
TOLD = [page for page in pages.PAGES if "<!-- results: " in page.read_text(encoding="utf-8")]
# What a page may say in figures without having computed it: of every interval and test.
OF_METHOD = re.compile(r"\b(95|5) %")


@pytest.fixture(scope="module")
def published() -> Any:
    return pages.Published()


@pytest.mark.parametrize("page", TOLD, ids=lambda page: page.name)
def test_a_page_says_what_the_studies_say_today(page: Path, published: Any) -> None:
    text = page.read_text(encoding="utf-8")
    assert pages.rewritten(text, published) == text, "write it again: python docs/results.py"


def test_the_pages_that_hold_results_do() -> None:
    assert {"README.md", "results.md", "quick-start.md", "statistics.md"} <= {p.name for p in TOLD}


def test_a_picture_shows_its_study_as_it_is(published: Any) -> None:
    assert pages.outdated_pictures(published) == [], "draw it: python docs/results.py --pictures"


@pytest.mark.parametrize("name", published_names())
def test_no_published_study_has_a_mistake_of_method(name: str, published: Any) -> None:
    found = published.of(name)
    told = [own for own in findings(found.study, found.trials) if own.severity != "note"]
    assert told == []


@pytest.mark.parametrize("name", ["README.md", "docs/results.md"])
def test_no_figure_is_written_by_hand(name: str) -> None:
    text = pages.PART.sub("", (ROOT / name).read_text(encoding="utf-8"))
    prose = OF_METHOD.sub("", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    assert re.findall(r"[^\n]*(?:\d\.\d|\d ?%)[^\n]*", prose) == []


def test_a_figure_that_was_changed_by_hand_is_found(published: Any) -> None:
    text = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")
    part = next(match for match in pages.PART.finditer(text) if "figure" in match[2])
    wrong = text.replace(part[0], part[0].replace(part[3], "7.77"))
    assert wrong != text
    assert pages.rewritten(wrong, published) == text


@pytest.mark.parametrize("part", ["nothing", "figure reference/ablation nothing"])
def test_a_part_that_is_none_is_named(part: str, published: Any) -> None:
    with pytest.raises(ValueError, match=r"results: .*'nothing': choose from "):
        pages.rewritten(f"<!-- results: {part} --><!-- end of results -->", published)


def test_a_command_is_shown_without_the_places_of_a_machine() -> None:
    words = "fmnist-study run lenet --storage /x/a.db --study-name 'a b' --data-dir /x --bank 64"
    assert pages.repeatable(words) == "fmnist-study run lenet --study-name 'a b' --bank 64"


def full_budget(folder: Path, *names: str) -> Any:
    """Make a database of these plans' studies, as if trained on all images."""
    rng = np.random.default_rng(3)
    for name in names:
        own = load_plan(name)
        of: dict[str, Any] = own.to_dict()
        rows = [
            trial(of, dict(cell.variant.changes), cell.seed, 0.92 + rng.normal(0, 0.002))
            for cell in own.cells
        ]
        database(folder, rows, of=of, name=f"reference/{name}")
    return pages.Published(folder / "studies.db")


def test_whatever_studies_there_are_the_pages_can_be_written(tmp_path: Path) -> None:
    found = full_budget(tmp_path, "structure", "lenet")
    written = {page.name: pages.rewritten(page.read_text(encoding="utf-8"), found) for page in TOLD}
    assert "### reference/lenet\n" in written["results.md"]
    assert "### reference/ablation\n" not in written["results.md"]
    assert "Not trained yet: `reference/record`." in written["results.md"]
    assert "(not trained yet)<!-- end of results --> points" in written["statistics.md"]
    assert "not comparable" not in pages.claims(found)
    counted = re.search(r"^Of (\d+) claims of 2 projects, ", pages.claims(found))
    assert counted is not None
    assert (
        int(counted[1])
        == len(found.claims)
        == sum(len(load_plan(name).figures.claims) for name in ("structure", "lenet"))
    )
    findings = pages.findings(found).splitlines()
    assert [line[:3] for line in findings] == ["1. ", "2. "]
    assert "claims of 2 public projects, repeated with replicate seeds: " in findings[0]
    assert re.search(r"^2. \d+ accuracies .* ours, .*: \w+: \d+", findings[1])
    assert pages.overview(found).count("\n| reference/") == 2


def test_the_network_of_a_record_is_told_with_its_goal(tmp_path: Path) -> None:
    found = full_budget(tmp_path, "record")
    row = pages.networks(found).splitlines()[2]
    assert re.search(
        r"^\| record: .* \| 50,282 \| 30 \| 9\d\.\d\d ± 0\.\d\d % † \| 9\d\.\d\d ± .* † \| 5 \|",
        row,
    )
    assert "†: the mean over an image and its mirror image" in pages.networks(found)
    assert pages.goal(found, "reference/record", "80.5") == "reached"
    mean = found.of("reference/record").table.baseline.test_accuracy_mean
    assert pages.goal(found, "reference/record", "99") == f"missed by {99 - 100 * mean:.2f} points"
    assert "50,282 parameters" in pages.findings(found)
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert "```text\nreference/record: fashion-mnist" in pages.rewritten(text, found)
    assert "### reference/record\n" not in pages.rewritten(text, found)


def test_a_database_without_studies_says_so(tmp_path: Path) -> None:
    database(tmp_path, [], name="mine")
    none = pages.Published(tmp_path / "studies.db")
    assert pages.claims(none) == "No published study judges a claim."
    assert pages.reported(none) == "No published study repeats a reported figure."
    assert pages.findings(none) == ""
    assert pages.overview(none).count("\n") == 1
