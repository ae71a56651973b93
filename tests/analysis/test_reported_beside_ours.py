"""Reported beside ours: differences by hand, verdicts, and what keeps figures from comparing."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from analysis.designs import results
from analysis.documents import render
from analysis.reported import ReportedRow, compare_reported
from analysis.tables.effects import EffectTable
from tests.support.studies import plan, read, trial

SOURCE = {
    "name": "someone",
    "selected_on": "test",
    "test_images": 10_000,
    "runs": 0,
    "url": "https://example.org/theirs",
    "license": "no licence file",
}
BASE = {"pooling": "max", "depth": 4}


def ours(
    folder: Path,
    reported: Sequence[Mapping[str, Any]],
    accuracies: Mapping[str, Sequence[float]],
    **more: Any,
) -> EffectTable:
    """Table of a plan of two poolings and a listed structure; `accuracies` are of the test."""
    of = plan(
        {"pooling": ["max", "avg"]},
        BASE,
        source=more.pop("source", SOURCE),
        reported=list(reported),
        variants=[{"factor": "structure", "level": "2 Conv", "changes": {"depth": 2}}],
        **more,
    )
    changes: dict[str, dict[str, Any]] = {
        "baseline": {},
        "avg": {"pooling": "avg"},
        "2 Conv": {"depth": 2},
    }
    rows = [
        trial(of, changes[name], seed, 0.9 + seed / 1000, test_accuracy=value)
        for name, values in accuracies.items()
        for seed, value in enumerate(values)
    ]
    found = results(*read(folder, rows, of)).table
    assert isinstance(found, EffectTable)
    return found


def row(
    folder: Path, entry: Mapping[str, Any], values: Sequence[float], **more: Any
) -> ReportedRow:
    """The row of one figure of the baseline beside the test accuracies that we measured."""
    accuracies = {"baseline": values} if values else {}
    (found,) = ours(folder, [{"changes": {}, **entry}], accuracies, **more).reported
    return found


def test_the_difference_carries_every_uncertainty(tmp_path: Path) -> None:
    values = [0.931, 0.935, 0.930]
    found = row(tmp_path, {"test_accuracy": 0.9314}, values)

    spread = stats.ttest_1samp(values, 0).confidence_interval()
    theirs = proportion_confint(9314, 10_000, method="wilson")
    assert (found.ours.low, found.ours.high) == pytest.approx((spread.low, spread.high))
    assert (found.reported.low, found.reported.high) == pytest.approx(theirs)
    # 360 test images of our data set, 10,000 of theirs.
    errors = 1.959964**2 * (0.932 * 0.068 / 360 + 0.9314 * 0.0686 / 10_000)
    # Our spread counts for our mean of three runs, and for theirs of a single one.
    half = math.sqrt(((spread.high - spread.low) / 2) ** 2 * (1 + 3 / 1) + errors)
    assert found.difference == pytest.approx(0.0006)
    assert found.difference_low == pytest.approx(0.0006 - half)
    assert found.difference_high == pytest.approx(0.0006 + half)
    assert (found.n, found.verdict) == (3, "agrees")


@pytest.mark.parametrize(("runs", "factor"), [(0, 4), (1, 4), (3, 2), (6, 1.5)])
def test_the_more_runs_a_figure_is_a_mean_of_the_less_may_it_be_off(
    tmp_path: Path, runs: int, factor: float
) -> None:
    values = [0.931, 0.935, 0.930]
    found = row(tmp_path, {"test_accuracy": 0.9314}, values, source=SOURCE | {"runs": runs})
    spread = stats.ttest_1samp(values, 0).confidence_interval()
    errors = 1.959964**2 * (0.932 * 0.068 / 360 + 0.9314 * 0.0686 / 10_000)
    half = math.sqrt(((spread.high - spread.low) / 2) ** 2 * factor + errors)
    assert found.difference_high == pytest.approx(0.0006 + half)


@pytest.mark.parametrize(
    ("entry", "values", "verdict"),
    [
        ({"test_accuracy": 0.80}, [0.901, 0.902, 0.9], "higher"),
        ({"test_accuracy": 0.99}, [0.901, 0.902, 0.9], "lower"),
        ({"test_accuracy": 0.90}, [0.901, 0.902, 0.9], "agrees"),
        ({"test_accuracy": 0.90}, [0.5, 0.9], "agrees"),  # nothing is known at such a spread
        ({"test_accuracy": 0.80}, [0.9], "too few"),
        ({"test_accuracy": 0.80}, [], "not run"),
        ({"test_accuracy_range": [0.89, 0.91]}, [0.901, 0.902], "within range"),
        ({"test_accuracy_range": [0.905, 0.91]}, [0.901, 0.902, 0.9], "agrees"),
        ({"test_accuracy_range": [0.95, 0.97]}, [0.901, 0.902, 0.9], "lower"),
        ({"test_accuracy_range": [0.89, 0.91]}, [0.901], "too few"),
        ({"parameters": 50_282}, [0.901, 0.902], "not reported"),
        ({"test_accuracy": 0.90, "epochs": 2}, [0.901, 0.902, 0.9], "agrees"),
    ],
)
def test_verdicts(tmp_path: Path, entry: dict[str, Any], values: list[float], verdict: str) -> None:
    assert row(tmp_path, entry, values).verdict == verdict


@pytest.mark.parametrize("sd", [0.0, 0.005, 0.010])
def test_the_run_of_a_source_is_one_of_many(tmp_path: Path, sd: float) -> None:
    """Equal networks are called higher or lower in 5 % of studies at most."""
    of = plan(
        {"pooling": ["max"]},
        {"pooling": "max"},
        seeds=5,
        source={"name": "theirs", "test_images": 10_000, "selected_on": "test", "runs": 1},
    )
    study, trials = read(tmp_path, [trial(of, {}, seed, 0.9) for seed in range(5)], of)
    study = replace(study, dataset={"test_images": 10_000})
    rng = np.random.default_rng(5)
    simulated, claims = 600, 0
    for _ in range(simulated):
        theirs, *runs = (
            rng.binomial(10_000, np.clip(0.9 + rng.normal(0, sd), 0, 1)) / 10_000 for _ in range(6)
        )
        plan_with = {**study.plan, "reported": [{"changes": {}, "test_accuracy": theirs}]}
        measured = [replace(t, test_accuracy=v) for t, v in zip(trials, runs, strict=True)]
        (found,) = compare_reported(replace(study, plan=plan_with), measured)
        claims += found.verdict in ("higher", "lower")
    # 5 %, and three standard errors of so many studies.
    assert claims / simulated <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / simulated)


def test_the_distance_to_a_range_is_that_to_its_nearer_end(tmp_path: Path) -> None:
    for number, (bounds, distance) in enumerate(
        [([0.92, 0.93], -0.02), ([0.85, 0.86], 0.04), ([0.85, 0.95], 0)]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        found = row(folder, {"test_accuracy_range": bounds}, [0.9, 0.901, 0.899])
        assert found.difference == pytest.approx(distance)
        assert found.reported.test_accuracy is None


def test_other_data_or_epochs_are_shown_and_not_judged(tmp_path: Path) -> None:
    entry = {"test_accuracy": 0.7, "epochs": 30}
    found = row(tmp_path, entry, [0.9, 0.901], subset=1000)
    assert found.verdict == "not comparable"
    assert found.reasons == ["1,000 of 1,437 training images", "2 epochs instead of 30"]
    assert found.difference == pytest.approx(0.2005)


def test_rows_are_named_as_the_plan_names_them(tmp_path: Path) -> None:
    reported = [
        {"changes": {}, "test_accuracy": 0.9},
        {"changes": {"depth": 2}, "test_accuracy": 0.9, "parameters": 50_282},
        {"changes": {"pooling": "avg"}, "test_accuracy": 0.9, "parameters": 50_000},
    ]
    found = ours(tmp_path, reported, {"2 Conv": [0.9, 0.91], "avg": [0.9]}).reported
    assert [(one.factor, one.level, one.variant, one.n) for one in found] == [
        (None, None, "baseline", 0),
        ("structure", "2 Conv", "depth=2", 2),
        ("pooling", "avg", "pooling=avg", 1),
    ]
    assert [one.parameters_equal for one in found] == [None, True, False]


def test_figures_of_experiments_that_became_the_same_keep_their_names(tmp_path: Path) -> None:
    of = plan(
        {},
        BASE,
        source=SOURCE,
        variants=[
            {"factor": "experiment", "level": level, "changes": {"depth": 2}} for level in "ab"
        ],
        reported=[
            {"changes": {"depth": 2}, "test_accuracy": 0.9, "epochs": epochs} for epochs in (40, 60)
        ],
    )
    found = compare_reported(*read(tmp_path, [trial(of, {"depth": 2}, 0, 0.9)], of))
    assert [(one.level, one.reported.epochs) for one in found] == [("a", 40), ("b", 60)]


def test_a_cell_of_a_factorial_is_named_by_all_its_levels(tmp_path: Path) -> None:
    of = plan(
        {"pooling": ["max", "avg"], "depth": [2, 4]},
        BASE,
        design="factorial",
        source=SOURCE | {"runs": 1},
        reported=[{"changes": changes, "test_accuracy": 0.9} for changes in ({}, {"depth": 2})],
    )
    rows = [trial(of, {"depth": 2}, seed, 0.9) for seed in range(3)]
    found = results(*read(tmp_path, rows, of)).table
    assert isinstance(found, EffectTable)
    assert [one.cell for one in found.reported] == [
        {"pooling": "max", "depth": 4},
        {"pooling": "max", "depth": 2},
    ]
    text = render(found, "text")
    assert "pooling, depth\n  max, 4 90.00 [89.40, 90.57]       test     1" in text
    by_level = {line["level"]: line for line in csv.DictReader(io.StringIO(render(found, "csv")))}
    assert by_level["depth=2"]["factor"] == "reported"
    assert by_level["depth=2"]["n"] == "3"
    assert by_level["depth=2"]["reported_verdict"] == "agrees"


REPORTED: list[dict[str, Any]] = [
    {"changes": {}, "test_accuracy": 0.9314, "parameters": 50_282, "latency_ms": 1.15},
    {"changes": {"depth": 2}, "test_accuracy": 0.9284, "parameters": 9_999, "note": "a|b"},
    {"changes": {"pooling": "avg"}, "test_accuracy_range": [0.908, 0.926]},
]
MEASURED = {"baseline": [0.931, 0.935, 0.93], "2 Conv": [0.8, 0.81, 0.82], "avg": [0.92, 0.91]}


def test_throughput_is_compared_where_the_network_was_trained(tmp_path: Path) -> None:
    of = plan(
        {}, BASE, source=SOURCE, reported=[{"changes": {}, "images_per_second": 10_000}], seeds=1
    )
    both = {name: {"32": {"images_per_second": n}} for name, n in (("cpu", 2000), ("cuda", 9000))}
    for number, (device, measured, expected) in enumerate(
        [("cpu", {"cpu": both["cpu"]}, 2000), ("NVIDIA H200", both, 9000)]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        rows = [trial(of, {}, 0, 0.9, device=device, inference=measured)]
        (found,) = compare_reported(*read(folder, rows, of))
        assert (found.ours.images_per_second, found.device) == (expected, device)


def test_text(tmp_path: Path) -> None:
    text = render(ours(tmp_path, REPORTED, MEASURED), "text")
    start = text.index("Reported and ours")
    assert text[start:].splitlines()[:22] == [
        "Reported and ours: test accuracy in %",
        "                     reported  chosen on  runs                  ours  n",
        "baseline 93.14 [92.63, 93.62]       test     ?  93.20 [92.54, 93.86]  3",
        "structure",
        "  2 Conv 92.84 [92.32, 93.33]       test     ?  81.00 [78.52, 83.48]  3",
        "pooling",
        "  avg          90.80 to 92.60       test     ?  91.50 [85.15, 97.85]  2",
        "",
        "Ours minus reported, in points",
        "                     difference  verdict",
        "baseline  +0.06  [-2.90,  3.02]  agrees",
        "structure",
        "  2 Conv -11.84 [-18.27, -5.41]  lower",
        "pooling",
        "  avg    within                  within range",
        "",
        "Size and costs: reported / ours, each on its own machine",
        "              parameters  ms an image",
        "baseline 50,282 = 50,282     1.15 / ?",
        "structure",
        "  2 Conv  9,999 ≠ 50,282",
        "",
    ]
    words = " ".join(text.split())
    assert "Reported by someone, number of runs not given, chosen on test data: optimistic" in words
    assert "Source: someone, https://example.org/theirs (licence: no licence file)." in words
    assert "Lower: ours is lower than the uncertainty of both explains." in words
    assert "structure 2 Conv: a|b" in words


def test_json_holds_both_sides(tmp_path: Path) -> None:
    found = ours(tmp_path, REPORTED, MEASURED).as_dict()
    assert found["source"] == SOURCE
    baseline, two, avg = json.loads(json.dumps(found["reported"]))
    assert baseline["reported"]["test_accuracy"] == 0.9314
    assert baseline["ours"]["test_accuracy"] == pytest.approx(0.932)
    assert two["parameters_equal"] is False
    assert avg["test_accuracy_range"] == [0.908, 0.926]
    assert {one["verdict"] for one in (baseline, two, avg)} == {"agrees", "lower", "within range"}


def test_csv_has_the_reported_figures_in_the_row_of_their_variant(tmp_path: Path) -> None:
    text = render(ours(tmp_path, REPORTED, MEASURED), "csv")
    baseline, avg, two = csv.DictReader(io.StringIO(text))
    assert (baseline["reported_test_accuracy"], baseline["reported_verdict"]) == (
        "0.9314",
        "agrees",
    )
    assert (two["level"], two["reported_parameters"]) == ("2 Conv", "9999")
    assert (avg["reported_range_low"], avg["reported_test_accuracy"]) == ("0.908", "")


def test_latex_and_markdown_escape_what_the_source_says(tmp_path: Path) -> None:
    found = ours(tmp_path, REPORTED, MEASURED)
    latex = render(found, "latex")
    assert r"9,999 $\neq$ 50,282" in latex
    assert latex.count(r"\begin{") == latex.count(r"\end{")
    assert r"a\|b" in render(found, "markdown")


def test_a_plan_without_figures_has_no_such_block(tmp_path: Path) -> None:
    found = ours(tmp_path, [], MEASURED)
    assert found.reported == []
    assert "eported" not in render(found, "text")
