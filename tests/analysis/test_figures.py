"""Figures: what is drawn is what was computed, sampled where there is too much of it."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.figures.base import Level, limits, plain, rounded, sample, slug
from analysis.figures.confusion import confusion
from analysis.figures.costs import Point, against_cost
from analysis.figures.curves import all_courses, course, level_courses
from analysis.figures.forest import forest
from analysis.figures.interaction import interaction
from analysis.figures.parallel import Dimension, parallel
from analysis.figures.replicates import replicates
from analysis.figures.save import CannotDraw, save
from analysis.quantity import ACCURACY
from analysis.statistics.effects import Ablation, ablation
from analysis.trials import Trial
from tests.support.browser import needs_chromium
from tests.support.studies import POOLING, ablation_trials, plan, read, trial


def stored(folder: Path, rows: Any, of: dict[str, Any]) -> list[Trial]:
    return read(folder, rows, of)[1]


def effects(folder: Path, of: dict[str, Any], values: dict[str, list[float]]) -> Ablation:
    return ablation(of, stored(folder, ablation_trials(of, values), of))


def history(*accuracies: float) -> list[dict[str, float]]:
    return [
        {"epoch": epoch, "val_accuracy": value, "train_accuracy": value}
        for epoch, value in enumerate(accuracies, 1)
    ]


def test_a_forest_has_a_row_per_level_and_its_interval(tmp_path: Path) -> None:
    values = {"baseline": [0.9, 0.91, 0.92], "pooling=avg": [0.93, 0.945, 0.949]}
    found = effects(tmp_path, POOLING, values).effects
    figure = forest(found, ["better", "not run"])
    (row,) = figure.data
    effect = found[0]
    assert effect.delta_low is not None
    assert effect.delta_high is not None
    (x,), (low,), (high,) = row["x"], row["error_x"]["arrayminus"], row["error_x"]["array"]
    assert x == pytest.approx(100 * (effect.delta or 0), rel=1e-4)
    assert (x - low, x + high) == pytest.approx(
        (100 * effect.delta_low, 100 * effect.delta_high), rel=1e-3
    )
    assert figure.layout["yaxis"]["ticktext"] == ["<b>pooling</b>", "avg"]


def test_a_forest_of_very_many_levels_keeps_the_largest(tmp_path: Path) -> None:
    of = plan({"width": list(range(100))}, {"width": 0})
    values = {f"width={level}": [0.9 + level / 1000, 0.9] for level in range(1, 100)}
    found = effects(tmp_path, of, {"baseline": [0.9, 0.9], **values}).effects
    figure = forest(found, ["not proven"] * 99)
    (row,) = figure.data
    assert len(row["x"]) == 60
    assert min(row["x"]) == pytest.approx(2.0)  # width=40
    assert "the table has all 99" in figure.note


def test_a_difference_with_too_few_pairs_has_no_bar(tmp_path: Path) -> None:
    values = {"baseline": [0.9, 0.91], "pooling=avg": [0.93, 0.945]}
    (row,) = forest(effects(tmp_path, POOLING, values).effects, ["too few", "not run"]).data
    assert row["error_x"]["array"] == [0]


def test_the_reference_of_a_factor_is_grey_and_others_are_not(tmp_path: Path) -> None:
    rows = stored(tmp_path, ablation_trials(POOLING, {"baseline": [0.9], "pooling=avg": [0.8]}),
                  POOLING)  # fmt: skip
    levels = [Level("avg", {0: rows[1]}), Level("max", {0: rows[0]}, reference=True)]
    _, avg, reference, _ = replicates("pooling", levels, [None, None], ACCURACY, "x").data
    assert reference["marker"]["color"] == "#7d858d"
    assert avg["marker"]["color"] != reference["marker"]["color"]


def test_long_labels_stand_beside_the_figure(tmp_path: Path) -> None:
    (row,) = stored(tmp_path, [trial(POOLING, {}, 0, 0.9)], POOLING)
    levels = [Level("flip+erase+translate" * 2, {0: row}), Level("none", {0: row})]
    figure = replicates("augmentation", levels, [None, None], ACCURACY, "x")
    assert figure.layout["yaxis"]["ticktext"] == ["flip+erase+translateflip+eras…", "none"]


def test_a_curve_is_the_mean_while_all_trials_learn(tmp_path: Path) -> None:
    rows = stored(
        tmp_path,
        [trial(POOLING, {}, seed, 0.9, history=history(*own))
         for seed, own in enumerate([(0.5, 0.7, 0.9), (0.6, 0.8)])],
        POOLING,
    )  # fmt: skip
    figure = level_courses("pooling", [Level("max", dict(enumerate(rows)))], "x")
    assert figure is not None
    band, mean, _ = figure.data
    assert (mean["x"], mean["y"]) == ([1, 2], [55, 75])
    assert band["y"] == [60, 80, 70, 50]  # up along the highest, back along the lowest


def test_many_curves_become_quantiles(tmp_path: Path) -> None:
    rows = stored(
        tmp_path,
        [trial(POOLING, {}, seed, 0.9, history=history(0.5 + seed / 200)) for seed in range(101)],
        POOLING,
    )
    figure = all_courses(rows, "val_accuracy", None)
    assert figure is not None
    outer, inner, median = figure.data
    assert median["y"] == [75]
    assert outer["y"] == [pytest.approx(97.5, abs=0.01), pytest.approx(52.5, abs=0.01)]
    assert inner["y"] == [87.5, 62.5]


def test_a_history_that_is_none_is_no_curve(tmp_path: Path) -> None:
    kept: list[Any] = [3, {"epoch": "x", "val_accuracy": 1}, {"epoch": 2, "val_accuracy": 0.5}]
    (row,) = stored(tmp_path, [trial(POOLING, {}, 0, 0.9)], POOLING)
    row = dataclasses.replace(row, history=kept)
    first, second = course(row, "val_accuracy")
    assert math.isnan(first)
    assert second == 0.5
    assert course(row, "train_loss") == []


def test_the_front_is_what_nothing_beats_in_both() -> None:
    found = [Point("a", [0.9], 1), Point("b", [0.8], 2), Point("c", [0.95, 0.97], 3)]
    figure = against_cost(found, "x", "cost", str, ACCURACY)
    assert figure is not None
    others, front = figure.data
    assert (front["x"], front["y"]) == ([1, 3], [90, 96])
    assert others["x"] == [2]
    assert against_cost(found[:1], "x", "cost", str, ACCURACY) is None


def test_failures_do_not_squeeze_the_rest() -> None:
    assert limits([0.9, 0.91, 0.92], [0.9]) is None
    assert limits([0.1, 0.9, 0.91, 0.92], [0.92]) == pytest.approx((0.8087, 0.9263))
    shown = limits([0.1, 0.9, 0.91, 0.92], [0.1])
    assert shown is None


def test_the_confusion_colours_mistakes_only() -> None:
    (heat,) = confusion([[8, 2], [0, 10]], ["a", "<b>"], "test images").data
    assert heat["z"] == [[None, 20], [0, None]]
    assert heat["text"] == [["<b>8</b>", "2"], ["", "<b>10</b>"]]
    assert heat["customdata"][0][1] == "<b>a</b> taken for &lt;b&gt;: 2 of 10 (20.0 %)"


def test_interactions_show_the_mean_of_each_pair_of_levels() -> None:
    cells = {("a", 1): [0.8, 0.9], ("b", 1): [0.7], ("a", 2): [0.5]}
    one, two = interaction("f", "g", cells, ACCURACY, "x").data
    assert (one["name"], one["y"]) == ("g = 1", [85, 70])
    assert two["y"] == [50, None]


def test_parallel_axes_hold_gaps_magnitudes_and_categories() -> None:
    figure = parallel(
        [
            Dimension("rate", [1e-4, 1e-2], "logarithmic"),
            Dimension("momentum", [None, 0.9], "numbers"),
            Dimension("pool", ["max", "avg"], "categories", ["avg", "max"]),
        ],
        [90, 91],
        2,
    )
    rate, momentum, pool = figure.data[0]["dimensions"]
    assert rate["values"] == [-4, -2]
    assert rate["ticktext"] == ["0.0001", "0.01"]
    assert momentum["ticktext"] == ["–", "0.9"]
    assert momentum["values"][0] < momentum["values"][1] == 0.9
    assert pool["values"] == [1, 0]


@given(st.text())
def test_no_text_becomes_a_tag_of_plotly(text: str) -> None:
    found = plain(text)
    assert "<" not in found
    assert ">" not in found


@given(st.lists(st.integers()), st.integers(2, 20))
def test_a_sample_is_evenly_drawn_and_keeps_both_ends(values: list[int], most: int) -> None:
    found = sample(values, most)
    assert len(found) == min(len(values), most)
    assert found[:1] == values[:1]
    assert found[-1:] == values[-1:]


def test_numbers_are_short_and_never_infinite() -> None:
    assert rounded([0.123456789, None, math.nan, math.inf, 3]) == [0.12346, None, None, None, 3]


def test_names_of_figures_are_fit_for_files() -> None:
    assert slug("../../etc/<passwd>", 0) == "1-etc-passwd"
    assert slug("漢字", 2) == "3"


@needs_chromium
@pytest.mark.parametrize("format", ["svg", pytest.param("png", marks=pytest.mark.slow)])
def test_figures_are_saved_as_files(tmp_path: Path, format: str) -> None:
    figure = interaction("f", "g", {("a", 1): [0.8, 0.9], ("b", 1): [0.7]}, ACCURACY, "pair")
    (path,) = save([figure], tmp_path / "figures", format)
    assert path.name == f"pair.{format}"
    content = path.read_bytes()
    if format == "svg":
        assert b"f \xc3\x97 g" in content  # the title
    else:
        assert content.startswith(b"\x89PNG")
        assert np.frombuffer(content[16:24], ">u4").tolist() == [1800, 2 * (340 + 44)]


def test_without_kaleido_it_is_said_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "kaleido", None)
    with pytest.raises(CannotDraw, match=r"pip install 'fmnist-study\[figures\]'"):
        save([], tmp_path, "svg")


def test_a_level_that_loses_very_much_leaves_the_others_readable(tmp_path: Path) -> None:
    of = plan({"width": [8, 16, 32, 64, 1]}, {"width": 8}, seeds=5)
    rng = np.random.default_rng(0)
    base = [0.90, 0.91, 0.905, 0.912, 0.903]
    values = {"baseline": base}
    for level in (16, 32, 64):
        values[f"width={level}"] = [v + rng.normal(0, 0.002) for v in base]
    values["width=1"] = [v - 0.48 + rng.normal(0, 0.002) for v in base]
    _, found = read(tmp_path, ablation_trials(of, values), of)
    effects = ablation(of, found).effects
    figure = forest(effects, [effect.claim for effect in effects])
    low, high = figure.layout["xaxis"]["range"]
    assert -10 < low < 0 < high < 10
    (worse,) = [trace for trace in figure.data if trace["name"] == "worse"]
    at = worse["texttemplate"].index("−48.01")
    assert worse["marker"]["symbol"][at] == "triangle-left"
    assert low <= worse["x"][at] < 0
    ends = [100 * (effect.delta_high or 0) for effect in effects if effect.level != 1]
    assert high == pytest.approx(max(ends), abs=0.1 * (high - low))  # no empty half
    assert "An arrow" in figure.note
