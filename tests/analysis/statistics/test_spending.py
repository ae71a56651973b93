"""Boundaries of repeated looks: what they spend, and against an integral in two dimensions."""

import numpy as np
import pytest
from scipy import stats

from analysis.statistics.spending import nominal_levels


def test_a_single_look_spends_everything() -> None:
    assert nominal_levels((7,), 0.05, 2.0) == pytest.approx((0.05,), rel=1e-9)


def test_two_looks_spend_what_the_normal_distribution_says() -> None:
    first, second = nominal_levels((4, 10), 0.05, 2.0)
    assert first == pytest.approx(0.05 * 0.16, rel=1e-9)
    a, b = (float(stats.norm.isf(level / 2)) for level in (first, second))
    rho = np.sqrt(0.4)
    inside = stats.multivariate_normal([0, 0], [[1, rho], [rho, 1]]).cdf(
        [a, b], lower_limit=[-a, -b]
    )
    assert 1 - inside == pytest.approx(0.05, abs=1e-6)


@pytest.mark.parametrize("power", [1.0, 2.0, 4.0])
def test_many_looks_spend_alpha_by_simulation(power: float) -> None:
    looks = (3, 4, 5, 6, 8, 10, 12, 16, 20)
    limits = stats.norm.isf(np.array(nominal_levels(looks, 0.05, power)) / 2)
    sums = np.cumsum(np.random.default_rng(1).normal(0, 1, (40_000, 20)), axis=1)
    z = np.abs(sums[:, np.array(looks) - 1]) / np.sqrt(looks)
    crossed = np.mean((z > limits).any(axis=1))
    assert crossed == pytest.approx(0.05, abs=0.004)
    early = np.mean((z[:, :5] > limits[:5]).any(axis=1))
    assert early == pytest.approx(0.05 * (8 / 20) ** power, abs=0.004)
