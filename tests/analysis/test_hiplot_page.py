"""The HiPlot page: every trial, offline, whatever the names."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hiplot import Displays, ValueType
from optuna.trial import FrozenTrial, TrialState, create_trial

from analysis.hiplot_page import experiment, write
from analysis.trials import Study, Trial
from tests.support.browser import HOSTILE, Page, needs_chromium, open_page
from tests.support.studies import (
    PARETO,
    POOLING,
    PUBLISHED,
    SEARCH,
    ablation_trials,
    plan,
    read,
    running,
    searched,
    small_pareto,
    small_search,
    trial,
)

TABLE_IS_DRAWN = "document.querySelectorAll('table tbody tr td + td').length > 0"
SELECTED = r"document.body.innerText.match(/Selected:\s*(\d+)\s*\/\s*(\d+)/).slice(1).join('/')"


def mixed() -> list[FrozenTrial]:
    values = {"baseline": [0.90, 0.91, 0.92], "pooling=avg": [0.93, 0.94]}
    return [
        *ablation_trials(POOLING, values),
        trial(POOLING, {"pooling": "avg"}, 2, 0.7, state=TrialState.PRUNED),
        trial(POOLING, {"batchnorm": False}, 0, None, state=TrialState.FAIL, failure_reason="nan"),
        running(POOLING, {"batchnorm": False}, 1, epoch=1),
    ]


def show(folder: Path, study: Study, rows: list[Trial], **more: Any) -> Page:
    page = write(study, rows, folder / "reports" / "hiplot.html")
    return open_page(page, folder / "page.png", ready=TABLE_IS_DRAWN, **more)


def test_every_trial_of_every_state_is_a_line(tmp_path: Path) -> None:
    lines = experiment(*read(tmp_path, mixed(), POOLING)).datapoints

    assert [line.values["state"] for line in lines] == [
        *["complete"] * 5, "pruned", "fail", "running",
    ]  # fmt: skip
    assert list(lines[0].values) == [
        "variant", "pooling", "batchnorm", "seed", "state", "epochs_trained", "seconds",
        "parameters", "best_epoch", "val_loss", "test_accuracy", "val_accuracy",
    ]  # fmt: skip
    assert lines[3].values["val_accuracy"] == 0.93
    assert lines[3].values["pooling"] == "avg"
    # A failed trial's line ends where the trial did.
    assert "val_accuracy" not in lines[6].values
    assert lines[6].values["variant"] == "batchnorm=false"
    assert lines[7].values["epochs_trained"] == 1
    # A pruned one has the accuracy of its last epoch, whether Optuna kept it as its value or not.
    assert lines[5].values["val_accuracy"] == 0.7


def test_a_search_shows_its_parameters_and_candidates(tmp_path: Path) -> None:
    made = experiment(*read(tmp_path, small_search(), SEARCH))
    lines = [line.values for line in made.datapoints]

    assert list(lines[1])[:7] == [
        "variant", "optimizer", "learning_rate", "width", "momentum", "candidate", "seed",
    ]  # fmt: skip
    assert math.isnan(
        float(lines[0]["momentum"])
    )  # which HiPlot draws beside the numbers, as "none"
    assert [line["candidate"] for line in lines] == [*range(8), 0, 1, 0, 1]
    assert (lines[2]["state"], lines[2]["val_accuracy"]) == ("pruned", 0.7)
    assert (lines[4]["state"], "val_accuracy" in lines[4]) == ("fail", False)
    assert all("pareto" not in line for line in lines)
    types = {name: own.type for name, own in made.parameters_definition.items()}
    # By its distribution; three levels such as 0.003, 0.0123 and 0.09 alone would not tell.
    assert types["learning_rate"] is ValueType.NUMERIC_LOG
    assert types["optimizer"] is ValueType.CATEGORICAL
    assert types["candidate"] is ValueType.NUMERIC


def test_the_front_is_marked_where_there_are_several_objectives(tmp_path: Path) -> None:
    more = {"directions": ["maximize", "minimize"]}
    lines = experiment(*read(tmp_path, small_pareto(), PARETO, **more)).datapoints
    assert [line.values["pareto"] for line in lines] == ["no", "yes", "no", "yes"]
    assert [line.values["parameters"] for line in lines] == [5000, 4000, 6000, 900]


def test_an_objective_of_another_name_has_its_own_column(tmp_path: Path) -> None:
    of = PARETO | {"search": PARETO["search"] | {"objectives": ["val_accuracy", "latency"]}}
    more = {"directions": ["maximize", "minimize"]}
    made = experiment(*read(tmp_path, small_pareto(), of, **more))
    assert [line.values["latency"] for line in made.datapoints] == [5000, 4000, 6000, 900]
    assert made.display_data(Displays.XY)["axis_x"] == "latency"


@pytest.mark.parametrize(
    ("factor", "levels", "expected"),
    [
        ("learning_rate", [1e-3, 3e-3], ValueType.NUMERIC_LOG),
        ("weight_decay", [1e-4, 5e-4], ValueType.NUMERIC_LOG),
        ("weight_decay", [0.0, 1e-4, 5e-4], ValueType.CATEGORICAL),
        ("batch_size", [32, 64, 128], ValueType.NUMERIC_LOG),
        ("kernel_size", [1, 3, 5], ValueType.CATEGORICAL),
        ("dropout", [0.0, 0.2, 0.5], ValueType.CATEGORICAL),
        ("depth", list(range(1, 14)), ValueType.NUMERIC),
        ("batchnorm", [True, False], ValueType.CATEGORICAL),
        ("schedule", ["step", 3], ValueType.CATEGORICAL),
    ],
)
def test_axes_are_logarithmic_where_the_factor_is(
    tmp_path: Path, factor: str, levels: list[Any], expected: ValueType
) -> None:
    of = plan({factor: levels}, {factor: levels[0]})
    rows = [trial(of, {factor: level}, 0, 0.9) for level in levels]
    made = experiment(*read(tmp_path, rows, of))

    assert made.parameters_definition[factor].type is expected


def test_a_factor_named_like_a_result_keeps_its_own_column(tmp_path: Path) -> None:
    of = plan({"seed": [7, 8]}, {"seed": 7})
    (line,) = experiment(*read(tmp_path, [trial(of, {"seed": 8}, 0, 0.9)], of)).datapoints

    assert (line.values["seed"], line.values["seed (factor)"]) == (0, 8)


def test_a_study_without_trials_has_no_page(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'test' has no trials"):
        write(*read(tmp_path, [], POOLING), tmp_path / "hiplot.html")


def test_the_page_names_no_font_of_another_host(tmp_path: Path) -> None:
    page = write(*read(tmp_path, mixed(), POOLING), tmp_path / "hiplot.html").read_text()

    assert "googleapis" not in page.split("sourcesContent")[0]
    assert "Content-Security-Policy" in page
    assert "<title>test</title>" in page


@needs_chromium
def test_chromium_shows_every_line_offline_without_an_error(tmp_path: Path) -> None:
    page = show(tmp_path, *read(tmp_path, mixed(), POOLING), ask=(SELECTED,))

    assert page.errors == []
    assert page.requests == []
    assert page.title == "test"
    assert page.answers == ["8/8"]
    for word in ("batchnorm=false", "pruned", "fail", "val_accuracy"):
        assert word in page.text
    assert "uid" not in page.text
    assert page.screenshot.stat().st_size > 10_000


@needs_chromium
def test_chromium_shows_a_search(tmp_path: Path) -> None:
    page = show(tmp_path, *read(tmp_path, small_search(), SEARCH), ask=(SELECTED,))

    assert page.errors == []
    assert page.answers == ["12/12"]
    for word in ("#7", "pruned", "momentum", "candidate", "none"):
        assert word in page.text
    assert "nan/inf/null" not in page.text


def test_a_trial_has_a_place_on_the_axis_of_a_parameter_that_it_does_not_have(
    tmp_path: Path,
) -> None:
    """A search with `when`: often the best trials are those without the parameter."""
    space = {
        "batchnorm": [True, False],
        "conv_bias": {"levels": [True, False], "when": {"batchnorm": [False]}},
        "width": {"low": 8, "high": 64, "when": {"batchnorm": [False]}},
    }
    baseline = {"batchnorm": True, "conv_bias": False, "width": 8}
    of = SEARCH | {"baseline": baseline, "search": SEARCH["search"] | {"space": space}}
    params: list[dict[str, Any]] = [
        {"batchnorm": True},
        {"batchnorm": False, "conv_bias": True, "width": 9},
    ]
    plain_space = of | {"search": of["search"] | {"space": space | {"conv_bias": [True, False]}}}
    rows = [searched(plain_space, own, number, 0.9) for number, own in enumerate(params)]
    made = experiment(*read(tmp_path, rows, of))
    first, second = (line.values for line in made.datapoints)
    assert (first["conv_bias"], second["conv_bias"]) == ("none", "true")
    assert math.isnan(float(first["width"]))
    assert second["width"] == 9
    assert made.parameters_definition["width"].type is ValueType.NUMERIC


@needs_chromium
@pytest.mark.parametrize("of", [POOLING, None])
def test_chromium_shows_a_study_in_which_nothing_has_finished(
    tmp_path: Path, of: dict[str, Any] | None
) -> None:
    rows = [running(POOLING, {}, 0, epoch=0), create_trial(state=TrialState.FAIL)]
    page = show(tmp_path, *read(tmp_path, rows, of), ask=(SELECTED,))

    assert page.errors == []
    assert page.answers == ["2/2"]


@needs_chromium
def test_hostile_names_change_nothing(tmp_path: Path) -> None:
    of = plan({HOSTILE[1]: ["max", *HOSTILE]}, {HOSTILE[1]: "max"})
    rows = [
        trial(of, {HOSTILE[1]: level}, seed, 0.9, variant=level, failure_reason=level)
        for seed, level in enumerate(HOSTILE)
    ]
    page = show(
        tmp_path,
        *read(tmp_path, rows, of, name=HOSTILE[0]),
        ask=(SELECTED, "window.hacked", "document.querySelectorAll('img[src=x]').length"),
    )

    assert page.answers == [f"{len(HOSTILE)}/{len(HOSTILE)}", None, 0]
    assert page.errors == []
    assert page.requests == []
    assert page.title == HOSTILE[0]
    assert "漢字" in page.text
    assert "\u202e" not in page.text


@needs_chromium
def test_the_browser_helper_reports_errors_and_requests(tmp_path: Path) -> None:
    # The other tests rest on it: an error that it does not see would pass them all.
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<img src='http://example.invalid/x.png'><script>console.error('told');"
        "console.assert(false, 'claimed');"
        "window.addEventListener('load', () => { throw 'thrown' })"
        "</script>"
    )
    page = open_page(bad, tmp_path / "bad.png")

    errors = json.dumps(page.errors)
    assert all(word in errors for word in ("told", "claimed", "thrown", "ERR_NAME_NOT_RESOLVED"))
    assert page.requests == ["http://example.invalid/x.png"]


def axes(study: Study, rows: list[Trial]) -> list[str]:
    shown: list[str] = experiment(study, rows).display_data(Displays.PARALLEL_PLOT)["order"]
    return shown[::-1]


def test_what_is_constant_has_no_axis_and_the_target_is_the_last(tmp_path: Path) -> None:
    study, rows = read(tmp_path, mixed(), POOLING)
    shown = axes(study, rows)
    assert shown[0] == "variant"
    assert shown[-1] == "val_accuracy"
    assert {"pooling", "batchnorm", "state"} <= set(shown)
    assert "parameters" not in shown  # all have as many
    assert experiment(study, rows).colorby == "val_accuracy"


def test_of_many_factors_the_target_comes_first_and_each_has_its_axis(tmp_path: Path) -> None:
    factors = {f"factor_{index:02}": [0.1, 0.2] for index in range(24)}
    of = plan(factors, dict.fromkeys(factors, 0.1))
    rows = [trial(of, {name: 0.2}, seed, 0.8 + seed / 9) for name in factors for seed in (0, 1)]
    shown = axes(*read(tmp_path, rows, of))
    assert shown[0] == "val_accuracy"
    assert set(factors) <= set(shown)
    assert "variant" not in shown


@needs_chromium
def test_the_target_of_the_published_ablation_is_within_a_window(tmp_path: Path) -> None:
    from analysis import trials

    connection = trials.connect(f"sqlite:///{PUBLISHED}")
    (study,) = (own for own in trials.studies(connection) if own.name == "reference/ablation")
    place = (
        "Math.max(...[...document.querySelectorAll('.pplot-root *')]"
        ".filter(e => e.textContent == 'val_accuracy')"
        ".map(e => e.getBoundingClientRect().right))"
    )
    wide = "document.documentElement.scrollWidth"
    page = show(tmp_path, study, trials.trials(connection, study.id), ask=(wide, place), width=1400)
    assert page.answers[0] <= 1400
    assert 1000 < page.answers[1] <= 1400
