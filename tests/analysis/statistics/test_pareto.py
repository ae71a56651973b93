"""The Pareto front against its definition, point by point."""

import time

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from analysis.statistics.pareto import front

DIRECTIONS = st.sampled_from(["MAXIMIZE", "MINIMIZE"])
# Few values, so that ties and equal points come often.
VALUES = st.one_of(st.integers(0, 4).map(float), st.just(float("nan")))


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[list[float]], list[str]]:
    directions = draw(st.lists(DIRECTIONS, min_size=1, max_size=4))
    size = len(directions)
    points = draw(st.lists(st.lists(VALUES, min_size=size, max_size=size), max_size=30))
    return points, directions


def dominates(a: list[float], b: list[float], directions: list[str]) -> bool:
    signs = [1 if direction == "MAXIMIZE" else -1 for direction in directions]
    gains = [sign * (x - y) for sign, x, y in zip(signs, a, b, strict=True)]
    return all(gain >= 0 for gain in gains) and any(gain > 0 for gain in gains)


@given(problems())
def test_the_front_is_what_no_other_point_dominates(
    problem: tuple[list[list[float]], list[str]],
) -> None:
    points, directions = problem
    known = [point for point in points if np.isfinite(point).all()]
    expected = [
        point in known and not any(dominates(other, point, directions) for other in known)
        for point in points
    ]

    assert front(points, directions).tolist() == expected


def test_by_hand() -> None:
    points = [(0.90, 5000), (0.93, 4000), (0.92, 6000), (0.85, 900), (0.93, 4000)]
    found = front(points, ["MAXIMIZE", "MINIMIZE"])
    assert found.tolist() == [False, True, False, True, True]
    assert front([], ["MAXIMIZE", "MINIMIZE"]).tolist() == []


def test_ten_thousand_points_take_well_under_a_second() -> None:
    points = np.random.default_rng(0).random((10_000, 2))
    start = time.process_time()
    found = front(points, ["MAXIMIZE", "MINIMIZE"])
    assert 5 < found.sum() < 30  # the expected size is the 10,000th harmonic number, 9.8
    assert time.process_time() - start < 1
