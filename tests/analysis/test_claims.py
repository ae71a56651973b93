"""What tables, summary and page claim of studies in which a careless claim would be false."""

from pathlib import Path
from typing import Any

import numpy as np

from analysis.designs import results
from analysis.designs.base import Results
from analysis.documents import render
from analysis.tables.effects import EffectTable
from tests.support.studies import ablation_trials, plan, read, trial

TWO = plan({"pooling": ["max", "avg"]}, {"pooling": "max"}, seeds=5)
BASE = [0.900, 0.912, 0.905, 0.909, 0.903]


def ablation(folder: Path, values: dict[str, list[float]], **more: Any) -> Results[Any]:
    of = TWO | more
    return results(*read(folder, ablation_trials(of, values), of))


def told(found: Results[Any]) -> str:
    summary = found.summary()
    sentences = [text for answer in summary.answers for text in answer.sentences]
    return " ".join([summary.headline, *sentences])


def words(found: Results[Any]) -> str:
    return " ".join(render(found.table, "text").split())


STEADY = [0.0] * 5
FITFUL = [-0.06, 0.12, 0.03, -0.03, 0.09]  # 0.03 on average, which so few seeds do not prove


def interaction(folder: Path, effect: float, alone: list[float]) -> Results[Any]:
    """Two factors of two levels; `effect`: of both changed or none; `alone`: of either, by seed."""
    of = plan(
        {"pooling": ["max", "avg"], "batchnorm": [True, False]},
        {"pooling": "max", "batchnorm": True},
        design="factorial",
        seeds=5,
    )
    rng = np.random.default_rng(3)
    rows = []
    for seed in range(5):
        for pooling in ("max", "avg"):
            for batchnorm in (True, False):
                equal = (pooling == "max") == batchnorm
                changes = {"pooling": pooling, "batchnorm": batchnorm}
                changes = {k: v for k, v in changes.items() if v != of["baseline"][k]}
                value = 0.7 + effect * equal + alone[seed] * len(changes)
                rows.append(trial(of, changes, seed, value + 0.004 * seed + rng.normal(0, 0.001)))
    return results(*read(folder, rows, of))


def test_a_crossover_is_not_summed_up_as_nothing(tmp_path: Path) -> None:
    crossover = interaction(tmp_path, 0.04, STEADY)
    assert crossover.summary().headline == (
        "pooling × batchnorm act on each other: which level is better depends on the other factor. "
        "No factor was proven to matter by itself."
    )
    assert "Nothing for certain" not in told(crossover)
    assert "proven interaction of pooling × batchnorm" in told(crossover)
    assert "Without a proven effect of their own: pooling and batchnorm" in told(crossover)


def test_an_interaction_that_turns_no_level_around_is_not_said_to(tmp_path: Path) -> None:
    assert interaction(tmp_path, 0.02, FITFUL).summary().headline == (
        "pooling × batchnorm act on each other: what a level does depends on the other factor. No "
        "factor was proven to matter by itself."
    )


def test_a_training_that_collapsed_is_named(tmp_path: Path) -> None:
    values = {"baseline": BASE, "pooling=avg": [*(v + 0.002 for v in BASE[:4]), 0.10]}
    found = ablation(tmp_path, values)
    text = words(found)
    assert "collapsed 1/5" in text
    assert "Collapsed: pooling=avg, seed 4 reached 10.0 %" in text
    assert "A training collapsed: pooling=avg, seed 4" in told(found)
    assert "Power:" not in text  # of the only comparison nobody can say what it finds
    (collapse,) = found.table.as_dict()["collapsed"]
    assert (collapse["variant"], collapse["seed"], collapse["value"]) == ("pooling=avg", 4, 0.1)
    parts = [part for section in found.sections(None, None) for part in section.parts]
    assert "collapsed 1/5" in str(parts)


def test_a_collapse_does_not_spoil_what_is_said_of_the_others(tmp_path: Path) -> None:
    of = plan({"width": [8, 16, 32, 64]}, {"width": 8}, seeds=5)
    rng = np.random.default_rng(0)
    values = {"baseline": BASE}
    for level in (16, 32, 64):
        values[f"width={level}"] = [v + rng.normal(0, 0.002) for v in BASE]
    sound = results(*read(_folder(tmp_path, "a"), ablation_trials(of, values), of)).table
    values["width=16"][2] = 0.1
    broken = results(*read(_folder(tmp_path, "b"), ablation_trials(of, values), of)).table
    assert isinstance(sound, EffectTable)
    assert isinstance(broken, EffectTable)
    before, after = sound.detectable_difference(), broken.detectable_difference()
    assert before is not None
    assert after is not None
    assert after < 3 * before


def _folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir()
    return folder


def test_rows_with_incomplete_pairs_are_named(tmp_path: Path) -> None:
    """The level ran on the two easy seeds and is worse there, but its mean is higher."""
    values = {"baseline": [0.88, 0.87, 0.875, 0.93, 0.94]}
    rows = [
        *ablation_trials(TWO, values),
        *(trial(TWO, {"pooling": "avg"}, seed, value) for seed, value in ((3, 0.925), (4, 0.934))),
    ]
    found = results(*read(tmp_path, rows, TWO))
    (effect,) = found.table.as_dict()["effects"]
    baseline = found.table.as_dict()["baseline"]
    assert effect["val_accuracy_mean"] > baseline["val_accuracy_mean"]
    assert effect["delta"] < 0
    assert "Incomplete pairs (pooling avg)" in words(found)


def test_complete_pairs_need_no_note(tmp_path: Path) -> None:
    found = ablation(tmp_path, {"baseline": BASE, "pooling=avg": [v + 0.01 for v in BASE]})
    assert "Incomplete" not in words(found)


def test_a_difference_without_spread_says_why_nothing_is_proven(tmp_path: Path) -> None:
    found = ablation(tmp_path, {"baseline": BASE, "pooling=avg": [v + 0.02 for v in BASE]})
    (effect,) = found.table.as_dict()["effects"]
    assert effect["verdict"] == "not proven"
    assert "the same for every seed" in words(found)


def test_no_comparison_is_not_all_0_comparisons(tmp_path: Path) -> None:
    found = ablation(tmp_path, {"baseline": BASE[:1], "pooling=avg": [0.91]})
    assert "0 comparisons" not in words(found)
    assert "0 comparisons" not in told(found)


def test_a_tiny_difference_does_not_matter_most(tmp_path: Path) -> None:
    """At 40 seeds a difference of a few thousandths of a point may be proven."""
    rng = np.random.default_rng(1)
    base = [0.9 + rng.normal(0, 0.005) for _ in range(40)]
    tiny = [v + 0.00003 + rng.normal(0, 0.000005) for v in base]
    found = ablation(tmp_path, {"baseline": base, "pooling=avg": tiny}, seeds=40)
    assert found.table.as_dict()["effects"][0]["verdict"] == "better"
    assert "matters most" not in found.summary().headline
    assert "0.00 points" not in told(found)
    assert "0.003 points" in found.summary().headline


def test_what_is_proven_negligible_is_said(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    close = [v + rng.normal(0, 0.0005) for v in BASE]
    found = ablation(tmp_path, {"baseline": BASE, "pooling=avg": close}, negligible=0.5)
    (effect,) = found.table.as_dict()["effects"]
    assert effect["verdict"] == "proven negligible"
    assert "proven negligible" in words(found)
    assert found.summary().headline == (
        "No change matters: each is proven to be within ±0.5 points."
    )


def test_what_is_not_proven_says_how_large_it_may_be(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    found = ablation(
        tmp_path, {"baseline": BASE, "pooling=avg": [v + rng.normal(0, 0.004) for v in BASE]}
    )
    (effect,) = found.table.as_dict()["effects"]
    assert effect["verdict"] == "not proven"
    bound = f"±{100 * effect['bound']:.2f}"
    assert bound in words(found)
    assert f"at most {bound} points" in told(found)


def test_the_interval_excludes_zero_exactly_where_p_says_so(tmp_path: Path) -> None:
    of = plan({"width": [8, 16, 32, 64, 128]}, {"width": 8}, seeds=4)
    for number in range(20):
        rng = np.random.default_rng(number)
        shift = rng.normal(0, 0.008, 4)
        values = {
            name: (0.9 + rng.normal(0, 0.004) + shift + rng.normal(0, 0.002, 4)).tolist()
            for name in ("baseline", "width=16", "width=32", "width=64", "width=128")
        }
        rows = ablation_trials(of, values)
        table = results(*read(_folder(tmp_path, str(number)), rows, of)).table.as_dict()
        for effect in table["effects"]:
            excludes = effect["delta_low"] > 0 or effect["delta_high"] < 0
            assert excludes == (effect["p_adjusted"] <= 0.05)
            assert excludes == (effect["verdict"] in ("better", "worse"))


def test_a_claim_that_test_data_does_not_show_is_marked(tmp_path: Path) -> None:
    rows = [
        *(trial(TWO, {}, s, v, test_accuracy=0.88 + s / 1000) for s, v in enumerate(BASE)),
        *(
            trial(
                TWO,
                {"pooling": "avg"},
                s,
                v + 0.01 + s / 9000,
                test_accuracy=0.88 + s / 1000 + (0.002 if s % 2 else -0.0015),
            )
            for s, v in enumerate(BASE)
        ),
    ]
    found = results(*read(tmp_path, rows, TWO))
    assert found.table.as_dict()["effects"][0]["verdict"] == "better"
    assert "not seen in test data: pooling avg" in words(found)
    assert "test accuracy does not show it: pooling = avg" in told(found)
    cells = [
        cell.text
        for section in found.sections(None, None)
        for part in section.parts
        for sheet in part.sheets
        for row in sheet.rows
        for cell in row
    ]
    assert "not seen" in cells


def test_strict_judges_each_comparison_by_its_own_pairs(tmp_path: Path) -> None:
    of = plan({"width": [8, 16, 32]}, {"width": 8}, seeds=3)
    rng = np.random.default_rng(7)
    values = {
        "baseline": BASE[:3],
        "width=16": [v + 0.01 + rng.normal(0, 0.002) for v in BASE[:3]],
        "width=32": [v + rng.normal(0, 0.002) for v in BASE[:3]],
    }
    study, trials = read(tmp_path, ablation_trials(of, values), of)
    strict = results(study, trials, strict=True).table.as_dict()
    assert strict["method"] == "strict"
    for effect in strict["effects"]:
        assert effect["p_adjusted"] == effect["p_holm"]
    assert "corrected by Holm" in " ".join(strict["notes"])
