"""Claims of a source: which hold, which are contradicted, and which nobody can tell."""

import math
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.trial import TrialState

from analysis.claims import JudgedClaim, judge_claims
from analysis.designs import results
from analysis.documents import render
from analysis.reported import compare_reported
from analysis.tables.claims import contradiction
from analysis.trials import connect, studies, trials
from analysis.verdicts import PROVEN
from fmnist_common.text import level_text
from study.cli.findings import plan_alone
from study.plans import catalog
from study.plans.plan import load_plan
from tests.support.house import ROOT
from tests.support.studies import plan, read, trial

SOURCE = {"name": "someone", "selected_on": "test", "test_images": 10_000, "runs": 1}
LEVELS = ["max", "avg", "none"]
NOISE = [0.0, 0.0006, -0.0005, 0.0002, -0.0003]


def judged(folder: Path, of: dict[str, Any], rows: Sequence[Any], **more: Any) -> list[JudgedClaim]:
    folder.mkdir(exist_ok=True)
    study, own = read(folder, rows, of, **more)
    return judge_claims(study, own, compare_reported(study, own))


def ablation(
    folder: Path,
    claim: Mapping[str, Any],
    ahead: Mapping[str, float],
    *,
    rows: Sequence[Any] = (),
    **more: Any,
) -> JudgedClaim:
    """Judge a claim about a pooling, of which levels are ahead of `max` by so many points."""
    said = {"text": "x", "factor": "pooling", **claim}
    of = plan(
        {"pooling": LEVELS}, {"pooling": "max"}, seeds=5, source=SOURCE, claims=[said], **more
    )
    own = [
        trial(of, {} if level == "max" else {"pooling": level}, seed,
              0.9 + seed / 100 + points / 100 + NOISE[(seed + shift) % 5])
        for shift, (level, points) in enumerate({"max": 0.0, **ahead}.items())
        for seed in range(5)
    ]  # fmt: skip
    (found,) = judged(folder, of, [*own, *rows])
    return found


@pytest.mark.parametrize(
    ("claim", "ahead", "verdict"),
    [
        ({"best": "avg"}, {"avg": 1.0, "none": 0.5}, "holds"),
        ({"best": "avg"}, {"avg": 1.0, "none": 2.0}, "contradicted"),
        ({"best": "avg"}, {"avg": 1.0, "none": 1.01}, "not decided"),
        ({"better": "avg", "than": "max"}, {"avg": 1.0, "none": 2.0}, "holds"),
        ({"better": "avg"}, {"avg": 1.0, "none": 2.0}, "contradicted"),
        ({"better": "avg", "than": "max"}, {"avg": -1.0}, "contradicted"),
        ({"worse": "avg"}, {"avg": -1.0, "none": 0.5}, "holds"),
        ({"worse": "avg"}, {"avg": -1.0, "none": -2.0}, "contradicted"),
        ({"worse": "avg", "than": "none"}, {"avg": -1.0, "none": -2.0}, "contradicted"),
        ({"no_worse": "max"}, {"avg": -1.0, "none": 0.02}, "holds"),
        ({"no_worse": "max"}, {"avg": -1.0, "none": 1.0}, "contradicted"),
        ({"no_worse": "max", "than": "none"}, {"none": 0.25}, "contradicted"),
        ({"no_worse": "max", "than": "none", "negligible": 0.5}, {"none": 0.25}, "holds"),
        ({"no_effect": True}, {"avg": 0.01, "none": -0.02}, "holds"),
        ({"no_effect": True}, {"avg": 1.0, "none": -0.02}, "contradicted"),
        ({"no_effect": True, "among": ["max", "none"]}, {"avg": 1.0, "none": 0.0}, "holds"),
        ({"no_effect": True, "negligible": 0.02}, {"avg": 0.01, "none": 0.0}, "not decided"),
        ({"best": "none"}, {"avg": 1.0}, "not run"),
    ],
)  # fmt: skip
def test_a_claim_holds_or_is_contradicted_only_where_that_is_proven(
    tmp_path: Path, claim: dict[str, Any], ahead: dict[str, float], verdict: str
) -> None:
    assert ablation(tmp_path, claim, ahead).verdict == verdict


def test_the_decisive_comparison_is_shown_the_claimed_level_first(tmp_path: Path) -> None:
    found = ablation(tmp_path, {"best": "avg"}, {"avg": 1.0, "none": 2.0})
    assert found.compared == "avg - none"
    assert found.difference == pytest.approx(-0.01, abs=5e-4)
    ends = [found.low, found.difference, found.high, 0.0]
    assert ends == sorted(ends, key=lambda end: end or 0.0)
    assert found.p_adjusted == pytest.approx(0.0, abs=0.001)
    assert found.n == 5


def test_a_claim_of_no_difference_shows_the_bound_that_it_holds_by(tmp_path: Path) -> None:
    alike = ablation(tmp_path / "a", {"no_effect": True, "among": ["max", "avg"]}, {"avg": 0.01})
    assert alike.verdict == "holds"
    assert alike.at_most is not None
    assert alike.at_most < 0.0025
    behind = ablation(tmp_path / "b", {"no_worse": "max", "than": "avg"}, {"avg": 0.1})
    assert behind.verdict == "holds"
    assert behind.at_least is not None
    assert behind.low is not None
    assert -0.0025 < behind.low < behind.at_least < (behind.difference or 0.0) < 0
    assert alike.at_least is behind.at_most is None


def test_a_claim_in_words_only_is_not_judged(tmp_path: Path) -> None:
    found = ablation(tmp_path, {}, {"avg": 1.0})
    assert (found.verdict, found.about, found.difference) == ("not judged", "", None)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"subset": 1000}, "1,000 of 1,437 training images"),
        ({"reported": [{"changes": {}, "test_accuracy": 0.9, "epochs": 30}]},
         "2 epochs instead of 30"),
    ],
)  # fmt: skip
def test_other_data_or_another_time_compares_with_nothing(
    tmp_path: Path, more: dict[str, Any], reason: str
) -> None:
    found = ablation(tmp_path, {"better": "avg", "than": "max"}, {"avg": -1.0}, **more)
    assert (found.verdict, list(found.reasons)) == ("not comparable", [reason])
    assert found.difference == pytest.approx(-0.01, abs=5e-4)  # and is shown


def test_only_the_budget_of_the_levels_that_are_compared_counts(tmp_path: Path) -> None:
    reported = [{"changes": {"pooling": "none"}, "test_accuracy": 0.9, "epochs": 30}]
    ahead = {"avg": 1.0, "none": 0.5}
    found = ablation(tmp_path, {"better": "avg", "than": "max"}, ahead, reported=reported)
    assert found.verdict == "holds"


def test_a_level_that_failed_on_a_seed_decides_nothing(tmp_path: Path) -> None:
    of = plan({"pooling": LEVELS}, {"pooling": "max"}, seeds=6)
    lost = [trial(of, {"pooling": "avg"}, 5, None, state=TrialState.FAIL, outcome="diverged")]
    found = ablation(tmp_path, {"better": "avg", "than": "max"}, {"avg": 1.0}, rows=lost)
    assert found.verdict == "holds"  # seed 5 is not of the plan
    lost = [trial(of, {"pooling": "avg"}, 4, None, state=TrialState.FAIL, outcome="diverged")]
    said = {"text": "x", "factor": "pooling", "better": "avg", "than": "max"}
    of |= {"source": SOURCE, "claims": [said], "seeds": 5}
    own = [trial(of, {}, seed, 0.9 + NOISE[seed]) for seed in range(5)]
    own += [trial(of, {"pooling": "avg"}, seed, 0.95) for seed in range(4)]
    (found,) = judged(tmp_path / "b", of, [*own, *lost])
    assert found.verdict == "not decided"


def test_levels_of_which_one_failed_are_not_alike(tmp_path: Path) -> None:
    of = plan({"pooling": LEVELS}, {"pooling": "max"}, seeds=5, source=SOURCE,
              claims=[{"text": "x", "factor": "pooling", "no_effect": True}])  # fmt: skip
    rows = [
        trial(of, {} if level == "max" else {"pooling": level}, seed, 0.9 + NOISE[(seed + n) % 5])
        for n, level in enumerate(LEVELS) for seed in range(5)
    ]  # fmt: skip
    (whole,) = judged(tmp_path / "a", of, rows)
    assert whole.verdict == "holds"
    lost = trial(of, {"pooling": "none"}, 4, None, state=TrialState.FAIL, outcome="diverged")
    (found,) = judged(tmp_path / "b", of, [*rows[:-1], lost])
    assert found.verdict == "not decided"


def factorial(claims: Sequence[Mapping[str, Any]], seeds: int = 3, **more: Any) -> dict[str, Any]:
    factors: dict[str, list[Any]] = {"pooling": ["max", "avg"], "batchnorm": [True, False]}
    claims = [{"text": "x", **claim} for claim in claims]
    base = {"pooling": "max", "batchnorm": True}
    return plan(
        factors, base, design="factorial", seeds=seeds, source=SOURCE, claims=claims, **more
    )


def cells(of: dict[str, Any], value: Any, seeds: int = 3) -> list[Any]:
    return [
        trial(of, {"pooling": p, "batchnorm": b}, seed, value(p, b, seed))
        for p, b, seed in product(("max", "avg"), (True, False), range(seeds))
    ]


def test_a_factorial_s_claim_is_judged_over_all_its_cells_within_a_seed(tmp_path: Path) -> None:
    of = factorial([{"factor": "pooling", "best": "avg"}])
    (found,) = judged(tmp_path, of, cells(of, lambda p, b, s: 0.9 - 0.1 * (p == "avg")
                                          + 0.01 * s * b + 0.001 * (s == 0 and b)))  # fmt: skip
    assert (found.verdict, found.n) == ("not decided", 3)  # no spread at all to judge by
    lean = [0.02, 0.03, -0.01]  # of max, by seed: three preferences, not six
    (found,) = judged(tmp_path / "b", of, cells(of, lambda p, b, s: 0.9 + lean[s] * (p == "max")))
    assert found.verdict == "not decided"
    assert found.n == 3


def test_a_claim_with_other_levels_is_of_these_cells_only(tmp_path: Path) -> None:
    claims = [{"factor": "pooling", "best": "avg", "with": {"batchnorm": b}} for b in (True, False)]
    of = factorial([*claims, {"factor": "pooling", "best": "avg"}])

    def value(pooling: str, norm: bool, seed: int) -> float:
        return (
            0.9
            + 0.02 * (pooling == "avg") * (1 if norm else -1)
            + NOISE[seed] * (1 + norm + 3 * (pooling == "avg"))
        )

    found = judged(tmp_path, of, cells(of, value))
    assert [own.verdict for own in found] == ["holds", "contradicted", "not decided"]
    assert found[0].about == "pooling: avg better than all others, where batchnorm is true"


def test_a_combination_is_compared_with_all_others(tmp_path: Path) -> None:
    best = {"pooling": "avg", "batchnorm": True}
    of = factorial([{"best": best}, {"best": best | {"batchnorm": False}}])

    def value(pooling: str, norm: bool, seed: int) -> float:
        good = {("avg", True): 0.03, ("avg", False): 0.01, ("max", True): 0.005}
        scatter = NOISE[(seed + 2 * norm + (pooling == "avg")) % 5]
        return 0.9 + good.get((pooling, norm), 0.0) + scatter / 4

    found = judged(tmp_path, of, cells(of, value))
    assert [own.verdict for own in found] == ["holds", "contradicted"]
    assert found[0].about == "pooling, batchnorm: avg, true better than all others"
    assert found[1].compared == "avg, false - avg, true"


def test_a_source_s_own_figures_speak_against_it_where_they_are_whole(tmp_path: Path) -> None:
    told = {("max", True): 0.9, ("max", False): 0.8, ("avg", True): 0.7, ("avg", False): 0.81}
    reported = [
        {"changes": {"pooling": p, "batchnorm": b}, "test_accuracy": own}
        for (p, b), own in told.items()
    ]
    claim = {"factor": "pooling", "best": "avg"}
    (found,) = judged(tmp_path, factorial([claim], reported=reported), [])
    assert found.verdict == "not run"
    assert found.against_itself == (
        "By its own table, avg has 75.50 %, not the highest; max has 85.00 %."
    )
    (fewer,) = judged(tmp_path / "b", factorial([claim], reported=reported[1:]), [])
    assert fewer.against_itself is None
    worse = {"factor": "pooling", "worse": "avg"}
    (agreed,) = judged(tmp_path / "c", factorial([worse], reported=reported), [])
    assert agreed.against_itself is None


STRANGE: list[dict[str, Any]] = [
    {"best": 1}, {"factor": "x", "best": 1}, {"factor": "x", "no_effect": True},
    {"factor": "pooling", "best": "min"}, {"factor": "pooling", "better": "max", "than": "max"},
    {"best": {}}, {"best": {"x": 1, "y": 2}}, {"best": {"pooling": "max", "batchnorm": 7}},
    {"factor": "pooling", "best": "max", "with": {"x": 1}}, {"no_effect": True},
    {"factor": "pooling", "best": "max", "with": {"pooling": "avg"}},
    {"factor": "pooling", "no_effect": True, "among": [1, 2]},
    {"factor": "pooling", "no_effect": True, "negligible": float("nan")},
    {"factor": "pooling", "no_worse": "max", "negligible": -1.0},
]  # fmt: skip


@pytest.mark.parametrize("design", ["ablation", "factorial"])
def test_a_stored_claim_that_says_nothing_sensible_stops_no_report(
    tmp_path: Path, design: str
) -> None:
    """A plan in a database may hold anything of the right types."""
    of = factorial(STRANGE) | {"design": design}
    rows = cells(of, lambda p, b, s: 0.9 + NOISE[s] * (1 + b + 2 * (p == "avg")))
    table = results(*read(tmp_path, rows, of)).table
    assert len(table.claims) == len(STRANGE)
    assert "Claims: " in render(table, "text")


def test_lint_s_words_name_both_sides_and_where(tmp_path: Path) -> None:
    claim = {"factor": "pooling", "best": "avg", "with": {"batchnorm": False}}
    of = factorial([claim])

    def value(pooling: str, norm: bool, seed: int) -> float:
        return 0.9 - 0.02 * (pooling == "avg") + NOISE[seed] * (1 + (pooling == "avg"))

    study, own = read(tmp_path, cells(of, value), of)
    (found,) = judge_claims(study, own, [])
    said = contradiction(found, study.plan["source"], study.quantity)
    assert said is not None
    assert said.startswith("someone claims: x. By these results, where batchnorm is false, max is ")
    assert "ahead of avg by 2.00 points [" in said


def test_every_format_has_the_claims(tmp_path: Path) -> None:
    of = factorial([{"factor": "pooling", "best": "avg", "text": "avg & co"}, {"text": "words"}])
    rows = cells(of, lambda p, b, s: 0.9 - 0.02 * (p == "avg") + NOISE[s] * (1 + (p == "avg")))
    table = results(*read(tmp_path, rows, of)).table
    text = render(table, "text")
    assert "\navg & co\n  avg - max" in text
    assert (
        "Verdicts on claims: contradicted, the opposite is proven; not judged, the plan"
        in " ".join(text.split())
    )
    assert "| words | nothing |" in render(table, "markdown")
    assert "avg \\& co" in render(table, "latex")
    assert [own["verdict"] for own in table.as_dict()["claims"]] == ["contradicted", "not judged"]


def test_chance_rarely_decides_a_claim(tmp_path: Path) -> None:
    """Of 4 alike levels one is claimed to be best: proven or contradicted in at most 5 %."""
    levels = ["none", "flip", "erase", "crop"]
    claim = {"text": "flip is best", "factor": "augmentation", "best": "flip"}
    of = plan({"augmentation": levels}, {"augmentation": "none"}, seeds=4, source=SOURCE,
              claims=[claim])  # fmt: skip
    study, own = read(
        tmp_path,
        [trial(of, {} if level == "none" else {"augmentation": level}, seed, 0.9)
         for level in levels for seed in range(4)],
        of,
    )  # fmt: skip
    rng, studies, decided = np.random.default_rng(1), 300, 0
    for _ in range(studies):
        split = rng.normal(0, 0.005, 4)
        for one in own:
            object.__setattr__(one, "value", 0.9 + split[one.seed or 0] + rng.normal(0, 0.003))
        (found,) = judge_claims(study, own, [])
        decided += found.verdict != "not decided"
    assert decided <= 0.05 * studies + 3 * math.sqrt(0.05 * 0.95 * studies)


# At full budget.


@pytest.mark.parametrize(("name", "figures"), [("pooling", 24), ("structure", 24), ("lenet", 1)])
def test_what_was_trained_at_full_budget_is_compared(
    tmp_path: Path, name: str, figures: int
) -> None:
    """As a GPU leaves it: all images, the plan's epochs, of which early stopping used a few."""
    own = load_plan(name)
    of, rng = own.to_dict(), np.random.default_rng(0)
    rows = [
        trial(of, dict(cell.variant.changes), cell.seed, 0.92 + rng.normal(0, 0.002),
              device="cuda:0", best_epoch=7, precision="bf16")
        for cell in own.cells
    ]  # fmt: skip
    table = results(*read(tmp_path, rows, of)).table
    verdicts = [row.verdict for row in table.reported if row.verdict != "not reported"]
    assert len(verdicts) == figures
    assert {*verdicts} <= {"agrees", "higher", "lower", "within range"}
    told = {claim.verdict for claim in table.claims}
    assert told <= {"holds", "contradicted", "not decided"}
    assert len(table.claims) >= 2


@pytest.mark.parametrize(
    "name", [name for name in catalog.names() if load_plan(name).figures.claims]
)
def test_every_claim_of_the_catalogue_can_be_judged(name: str) -> None:
    study = plan_alone(name, load_plan(name).to_dict())
    assert {claim.verdict for claim in judge_claims(study, [], [])} == {"not run"}


def test_no_claim_is_proven_where_the_table_proves_nothing() -> None:
    engine = connect(f"sqlite:///{ROOT / 'studies.db'}")
    (study,) = (each for each in studies(engine) if each.name == "reference/structure")
    finished = trials(engine, study.id)
    table = {
        (effect.factor, level_text(effect.level)): effect
        for effect in results(study, finished).table.effects
    }
    verdicts = []
    for claim, found in zip(study.plan["claims"], judge_claims(study, finished, []), strict=True):
        levels = {
            str(name)
            for name in (found.level, found.other)
            if (claim["factor"], str(name)) in table
        }
        if len(levels) == 1:  # the other one is what the table compares with
            row = table[claim["factor"], levels.pop()]
            assert row.delta is not None
            assert found.difference is not None
            assert abs(found.difference) == pytest.approx(abs(row.delta))
            assert found.verdict != "holds" or row.claim in PROVEN
            verdicts.append(found.verdict)
    assert {"holds", "not decided"} == set(verdicts)
    assert len(verdicts) > 5
