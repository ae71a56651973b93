"""Ranges that end at their best level."""

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from study.lint import lint
from tests.support.linting import found, level_rows, ours, row


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


def test_the_levels_of_a_source_end_where_it_ended_them() -> None:
    source = {"name": "someone", "selected_on": "test", "test_images": 10_000, "runs": 1}
    values = {16: [0.80, 0.81, 0.80], 32: [0.85, 0.86, 0.86], 64: [0.91, 0.92, 0.93]}
    for more, severity in (({}, "warning"), ({"source": source}, "note")):
        plan = ours(seeds=3, factors={"width": [16, 32, 64]}, **more)
        findings = lint(plan, level_rows("width", values, 32))
        assert found(findings, "edge-of-range") == [(severity, "factors.width")]


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
