"""A training that collapsed is found, and a seed that is merely hard is not."""

import numpy as np
import pytest

from fmnist_common.collapse import collapsed


def study(variants: int, seeds: int, sd: float, generator: int) -> dict[str, dict[int, float]]:
    rng = np.random.default_rng(generator)
    shift = rng.normal(0, 0.008, seeds)
    return {
        f"v{number}": dict(enumerate(0.89 + rng.normal(0, 0.01) + shift + rng.normal(0, sd, seeds)))
        for number in range(variants)
    }


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("variants", [2, 22])
def test_a_seed_at_chance_level_is_found(variants: int, seeds: int) -> None:
    values = study(variants, seeds, 0.004, 1)
    values["v1"][2] = 0.10
    (found,) = collapsed(values)
    assert (found.variant, found.seed, found.value) == ("v1", 2, 0.10)
    assert found.median > 0.85


def test_noise_is_no_collapse() -> None:
    assert [collapsed(study(22, 5, 0.004, number)) for number in range(200)] == [[]] * 200


def test_what_spreads_widely_anyway_has_not_collapsed() -> None:
    """Tiny trainings, whose accuracies are anything from 20 to 60 %."""
    assert [collapsed(study(6, 5, 0.10, number)) for number in range(50)] == [[]] * 50


def test_a_variant_that_always_scatters_widely_has_not_collapsed() -> None:
    """Beside variants that hardly scatter, as a network that is too small beside others."""
    values = {"a": {0: 0.90, 1: 0.91, 2: 0.905}, "tiny": {0: 0.274, 1: 0.334, 2: 0.174}}
    assert collapsed(values) == []


def test_of_two_values_nobody_knows_which_is_the_odd_one() -> None:
    assert collapsed({"a": {0: 0.9, 1: 0.1}}) == []
    assert collapsed({}) == []
