"""Two studies side by side: what differs, and the paired difference of common variants."""

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial
from scipy import stats

from analysis.compare import StudyComparison, compare
from analysis.documents import FORMATS, render
from analysis.trials import Study, Trial, connect, studies, trials
from tests.support.studies import POOLING, ablation_trials, database, plan, trial

SECOND = POOLING | {"epochs": 4}
FIRST_VALUES = {
    "baseline": [0.90, 0.91, 0.92],
    "pooling=avg": [0.93, 0.94, 0.95],
    "batchnorm=false": [0.8],
}
SECOND_VALUES = {"baseline": [0.91, 0.93, 0.95], "pooling=avg": [0.93, 0.94, 0.95]}


def stored(
    folder: Path, rows: Iterable[FrozenTrial], of: dict[str, Any] | None, name: str, **more: Any
) -> tuple[Study, list[Trial]]:
    engine = connect(database(folder, rows, of=of, name=name, **more))
    (study,) = (study for study in studies(engine) if study.name == name)
    return study, trials(engine, study.id)


def pair(
    folder: Path,
    second: Iterable[FrozenTrial],
    of: dict[str, Any] | None = SECOND,
    first: Iterable[FrozenTrial] | None = None,
) -> StudyComparison:
    rows = ablation_trials(POOLING, FIRST_VALUES) if first is None else first
    return compare(*stored(folder, rows, POOLING, "a"), *stored(folder, second, of, "b"))


@pytest.fixture
def longer(tmp_path: Path) -> StudyComparison:
    return pair(tmp_path, ablation_trials(SECOND, SECOND_VALUES))


def test_common_variants_are_paired_by_seed(longer: StudyComparison) -> None:
    assert longer.paired
    assert [own.variant for own in longer.common] == ["baseline", "pooling=avg"]
    assert longer.only_first == ["batchnorm=false"]
    assert longer.only_second == []
    base = longer.common[0]
    expected = stats.ttest_rel(SECOND_VALUES["baseline"], FIRST_VALUES["baseline"])
    interval = expected.confidence_interval(0.95)
    assert base.delta == pytest.approx(0.02)
    assert (base.delta_low, base.delta_high) == pytest.approx((interval.low, interval.high))
    assert base.p_value == pytest.approx(expected.pvalue)
    assert (base.compared, base.verdict) == (3, "not proven")
    assert longer.common[1].verdict == "identical"


def test_what_differs_is_listed_and_nothing_else(longer: StudyComparison) -> None:
    assert [(one.what, one.first, one.second) for one in longer.differing] == [("epochs", 2, 4)]


def test_a_variant_may_have_another_name_in_the_other_study(tmp_path: Path) -> None:
    # What is a change in one study is the baseline of the other: the config is the same.
    factors: dict[str, list[Any]] = {"pooling": ["avg", "max"], "batchnorm": [True, False]}
    swapped = plan(factors, {"pooling": "avg", "batchnorm": True})
    values = {"baseline": [0.95, 0.96, 0.97], "pooling=max": [0.91, 0.92, 0.93]}
    found = pair(tmp_path, ablation_trials(swapped, values), swapped)
    names = {own.variant: own.second_variant for own in found.common}
    assert names == {"baseline": "pooling=max", "pooling=avg": "baseline"}
    assert found.common[0].delta == pytest.approx(0.01)


def test_other_data_or_another_split_is_not_paired(tmp_path: Path) -> None:
    rows = ablation_trials(SECOND, SECOND_VALUES)
    first = stored(tmp_path, ablation_trials(POOLING, FIRST_VALUES), POOLING, "a")
    url = database(tmp_path, rows, of=SECOND, name="b")
    own = optuna.load_study(study_name="b", storage=url.render_as_string())
    own.set_user_attr("dataset", {"name": "digits", "sha256": "1" * 64})
    engine = connect(url)
    second = next(study for study in studies(engine) if study.name == "b")
    found = compare(*first, second, trials(engine, second.id))

    assert not found.paired
    expected = stats.ttest_ind(SECOND_VALUES["baseline"], FIRST_VALUES["baseline"], equal_var=False)
    assert found.common[0].p_value == pytest.approx(expected.pvalue)
    assert not found.common[0].paired
    assert "the same seed means nothing" in " ".join(found.notes)


def test_a_split_of_another_size_is_not_paired(tmp_path: Path) -> None:
    rows = [
        trial(SECOND, {}, seed, 0.9, config={"pooling": "max", "validation_fraction": 0.5})
        for seed in range(3)
    ]
    assert not pair(tmp_path, rows).paired


def test_studies_without_anything_in_common_say_so(tmp_path: Path) -> None:
    other = plan({"width": [8, 16]}, {"width": 8})
    found = pair(tmp_path, [trial(other, {"width": 16}, 0, 0.9)], other)
    assert found.common == []
    assert found.notes == ["No variant of one study is in the other."]
    assert "No variant" in render(found, "text")


def test_trials_without_a_config_are_matched_by_name(tmp_path: Path) -> None:
    def bare(of: dict[str, Any], values: dict[str, list[float]]) -> list[FrozenTrial]:
        rows = list(ablation_trials(of, values))
        for row in rows:
            row.set_user_attr("config", {})
        return rows

    found = pair(tmp_path, bare(SECOND, SECOND_VALUES), first=bare(POOLING, FIRST_VALUES))
    assert [own.variant for own in found.common] == ["baseline", "pooling=avg"]


def test_several_differences_are_not_told_apart(tmp_path: Path) -> None:
    of = SECOND | {"subset": 500}
    found = pair(tmp_path, ablation_trials(of, SECOND_VALUES), of)
    assert "differ in 2 respects that may matter" in " ".join(found.notes)


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_holds_the_same_figures(longer: StudyComparison, format: str) -> None:
    text = render(longer, format)
    assert text.endswith("\n")
    if format == "json":
        record = json.loads(text)
        assert record["common"][0]["delta"] == pytest.approx(0.02)
        assert record["differing"] == [{"what": "epochs", "first": 2, "second": 4}]
    elif format == "csv":
        (base, avg) = csv.DictReader(io.StringIO(text))
        assert float(base["delta"]) == pytest.approx(0.02)
        assert avg["verdict"] == "identical"
        assert float(base["second_val_accuracy_mean"]) == pytest.approx(0.93)
    else:
        assert "+2.00" in text
        assert "not proven" in text
    if format == "text":
        assert max(map(len, text.splitlines())) <= 80


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    hostile = "<img src=x>\x1b[31m|\u202e"
    of = plan({hostile: ["a", hostile]}, {hostile: "a"})
    rows = [trial(of, {hostile: hostile} if n else {}, 0, 0.9) for n in range(2)]
    found = compare(*stored(tmp_path, rows, of, hostile), *stored(tmp_path, rows, of, "b"))
    for format in ("text", "markdown", "csv", "latex"):
        text = render(found, format)
        assert "\x1b" not in text
        assert "\u202e" not in text
    assert "<img" not in render(found, "markdown")
