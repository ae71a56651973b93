"""Claims that figures contradict, and ranges that end at their best level."""

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from study.lint import lint
from tests.support.linting import found, level_rows, ours, row

CLAIM = {
    "source": {"name": "someone", "selected_on": "validation", "test_images": 9, "runs": 3},
    "claims": [{"text": "avg is best", "factor": "pooling", "best": "avg"}],
}


@pytest.mark.parametrize(
    ("avg", "contradicted"),
    [([0.80, 0.82, 0.81], True), ([0.80, 0.99, 0.81], False), ([0.95, 0.96, 0.97], False)],
)
def test_only_a_proven_difference_of_ours_contradicts_a_claim(
    avg: list[float], contradicted: bool
) -> None:
    plan = ours(seeds=3, factors={"pooling": ["max", "avg"]}, **CLAIM)
    rows = level_rows("pooling", {"max": [0.9, 0.91, 0.92], "avg": avg}, "max")
    assert bool(found(lint(plan, rows), "contradicted-claim")) == contradicted


def test_a_factorial_s_claim_is_judged_over_all_its_cells() -> None:
    factors = {"pooling": ["max", "avg"], "batchnorm": [True, False]}
    plan = ours(design="factorial", seeds=3, factors=factors, **CLAIM)
    rows = [
        row({"pooling": p, "batchnorm": b}, seed, 0.9 - 0.1 * (p == "avg") + 0.01 * seed * b)
        for p in ("max", "avg") for b in (True, False) for seed in range(3)
    ]  # fmt: skip
    rows[0].value += 0.001
    (finding,) = [own for own in lint(plan, rows) if own.code == "contradicted-claim"]
    assert "max is ahead of it by 10.02 points" in finding.message


def test_a_factorial_s_reported_cells_are_averaged_by_level() -> None:
    factors = {"pooling": ["max", "avg"], "batchnorm": [True, False]}
    reported = [
        {"changes": {"pooling": p, "batchnorm": b}, "test_accuracy": own}
        for p, b, own in (("max", True, 0.9), ("max", False, 0.8), ("avg", True, 0.7),
                          ("avg", False, 0.81))
    ]  # fmt: skip
    plan = ours(design="factorial", seeds=3, factors=factors, reported=reported, **CLAIM)
    (finding,) = lint(plan, [])
    assert "avg has 75.50 %, the lowest of all 2; max has 85.00 %" in finding.message
    fewer = ours(design="factorial", seeds=3, factors=factors, reported=reported[1:], **CLAIM)
    assert lint(fewer, []) == []


# Ranges.


@pytest.mark.parametrize(
    ("factor", "values", "said"),
    [
        ("dropout", {0.0: [0.9, 0.91, 0.92], 0.2: [0.8, 0.82, 0.81], 0.5: [0.7, 0.71, 0.72]}, []),
        ("kernel_size", {1: [0.9, 0.91, 0.92], 3: [0.8, 0.82, 0.81], 5: [0.7, 0.71, 0.73]}, []),
        ("dropout", {0.0: [0.7, 0.7, 0.7], 0.2: [0.8, 0.82, 0.81], 0.5: [0.9, 0.91, 0.93]},
         [("warning", "factors.dropout")]),
        ("dropout", {0.0: [0.7, 0.7, 0.7], 0.2: [0.8, 0.82, 0.81], 0.5: [0.8, 0.83, 0.80]}, []),
        ("dropout", {0.0: [0.7, 0.7, 0.7], 0.2: [0.8, 0.82, 0.81], 0.5: [0.8, 0.84, 0.80]},
         [("note", "factors.dropout")]),
        ("width", {32: [0.9, 0.91, 0.92], 16: [0.8, 0.8, 0.8]}, []),
    ],
)  # fmt: skip
def test_only_an_end_that_could_move_and_is_ahead_is_told(
    factor: str, values: Mapping[Any, Sequence[float]], said: list[tuple[str, str]]
) -> None:
    base = {"dropout": 0.2, "kernel_size": 3, "width": 32}[factor]
    plan = ours(seeds=3, factors={factor: list(values)})
    assert found(lint(plan, level_rows(factor, values, base)), "edge-of-range") == said


def test_the_winner_of_a_search_at_the_end_of_its_range_is_noted() -> None:
    space = {"learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}, "width": [16, 32, 64],
             "dropout": {"low": 0.0, "high": 0.6}}  # fmt: skip
    plan = ours(design="search", seeds=3, search={"trials": 3, "space": space})
    good = {"learning_rate": 0.09, "width": 32, "dropout": 0.001}
    rows = [row(good, seed, 0.9) for seed in range(3)]
    rows += [row({"learning_rate": 0.01, "width": 64, "dropout": 0.1}, 0, 0.95)]  # seen once
    assert found(lint(plan, rows), "edge-of-range") == [("note", "search.space.learning_rate")]
    rows = [row({**good, "width": 64, "learning_rate": 0.05}, seed, 0.9) for seed in range(3)]
    assert found(lint(plan, rows), "edge-of-range") == [("note", "search.space.width")]


def test_two_seeds_prove_no_edge() -> None:
    """Two pairs may agree by chance: their paired t has one degree of freedom."""
    plan = ours(seeds=2, factors={"width": [16, 32, 64]})
    values = {16: [0.80, 0.80], 32: [0.81, 0.82], 64: [0.9101, 0.92]}
    findings = lint(plan, level_rows("width", values, 32))
    assert found(findings, "edge-of-range") == [("note", "factors.width")]
    (edge,) = [own for own in findings if own.code == "edge-of-range"]
    assert "Chance may explain its lead." in edge.message


def noise(levels: Sequence[Any], seeds: int, generator: random.Random) -> dict[Any, list[float]]:
    """Make accuracies without any difference: a common effect of the seed, and 0.3 points each."""
    split = [generator.gauss(0, 0.005) for _ in range(seeds)]
    return {level: [0.9 + own + generator.gauss(0, 0.003) for own in split] for level in levels}


def test_chance_contradicts_a_claim_no_more_often_than_it_should() -> None:
    """Of 8 levels without a difference, one is claimed to be best; the true rate is 0."""
    levels = ["none", "flip", "erase", "translate", "crop", "rotate", "noise", "flip+erase"]
    claim = {"text": "flip is best", "factor": "augmentation", "best": "flip"}
    plan = ours(seeds=5, factors={"augmentation": levels}, **{**CLAIM, "claims": [claim]})
    generator = random.Random(1)
    wrong = sum(
        bool(
            found(
                lint(plan, level_rows("augmentation", noise(levels, 5, generator), "none")),
                "contradicted-claim",
            )
        )
        for _ in range(400)
    )
    assert wrong <= 0.05 * 400 + 3 * math.sqrt(0.05 * 0.95 * 400)  # three standard errors


def test_chance_finds_an_edge_no_more_often_than_it_should() -> None:
    levels = [16, 32, 64, 96, 128]
    plan = ours(seeds=5, factors={"width": levels})
    generator = random.Random(2)
    wrong = sum(
        ("warning", "factors.width")
        in found(lint(plan, level_rows("width", noise(levels, 5, generator), 32)), "edge-of-range")
        for _ in range(400)
    )
    assert wrong <= 0.05 * 400 + 3 * math.sqrt(0.05 * 0.95 * 400)


def test_a_factorial_s_cells_of_one_seed_are_one_run() -> None:
    """Each seed prefers a pooling in all its cells: three preferences, not twelve."""
    factors = {"pooling": ["max", "avg"], "batchnorm": [True, False], "dropout": [0.0, 0.2]}
    plan = ours(design="factorial", seeds=3, factors=factors, **CLAIM)
    lean = {0: 0.02, 1: 0.03, 2: -0.01}  # of max, by seed
    rows = [
        row({"pooling": p, "batchnorm": b, "dropout": d}, seed,
            0.9 + lean[seed] * (p == "max") + 0.001 * (b + d) * seed)
        for p in ("max", "avg") for b in (True, False) for d in (0.0, 0.2) for seed in range(3)
    ]  # fmt: skip
    assert found(lint(plan, rows), "contradicted-claim") == []
