"""The counter-based random numbers: uniform, independent, and the same in any company."""

import math
from collections.abc import Sequence

import pytest
import torch
from scipy import stats
from torch import Tensor

from trainer.streams import Stream, derive, generator, threshold

CPU = torch.device("cpu")


def step(index: int) -> Tensor:
    return torch.tensor(index, dtype=torch.int32)


def stream(seeds: Sequence[int], name: str = "dropout") -> Stream:
    return Stream(seeds, name, CPU)


def largest_correlation(sequences: Tensor) -> float:
    """Of any two rows of [N, n], in standard errors of a correlation (1 / sqrt(n))."""
    correlation = torch.corrcoef(sequences.double()).fill_diagonal_(0)
    return correlation.abs().max().item() * math.sqrt(sequences.shape[1])


def looks_uniform(values: Tensor, bins: int) -> bool:
    """Chi-square test of whole numbers in [0, bins), at a level that fixed seeds do not reach."""
    return bool(stats.chisquare(torch.bincount(values.flatten(), minlength=bins)).pvalue > 1e-3)


@pytest.mark.parametrize("seed", [0, 1, 2**31 - 1])
def test_numbers_have_the_mean_and_variance_of_the_unit_interval(seed: int) -> None:
    u = stream([seed]).uniform(step(0), 1000, 1000).double()
    assert u.shape == (1000, 1, 1000)
    assert u.min() >= 0
    assert u.max() < 1
    # Standard errors: sqrt(1/12 / n) and sqrt(1/180 / n).
    assert u.mean().item() == pytest.approx(1 / 2, abs=5 * 0.289 / 1000)
    assert u.var().item() == pytest.approx(1 / 12, abs=5 * 0.0745 / 1000)


@pytest.mark.parametrize("shift", [0, 8, 16])
def test_every_byte_of_the_numbers_is_uniform(shift: int) -> None:
    bits = stream([3]).bits(step(7), 1000, 1000)
    assert bits.dtype == torch.int32
    assert bits.min() >= 0
    assert bits.max() < 1 << 24
    assert looks_uniform(bits >> shift & 0xFF, 256)


@pytest.mark.parametrize("lag", [1, 2, 28, 64, 784])
def test_pairs_of_numbers_are_uniform_on_the_square(lag: int) -> None:
    bits = stream([5]).bits(step(1), 1000, 1000).flatten() >> 20
    assert looks_uniform(bits[:-lag] * 16 + bits[lag:], 256)


def test_the_same_position_over_many_steps_is_uniform() -> None:
    values = torch.cat([stream([11]).bits(step(i), 16, 1) for i in range(2000)])
    assert looks_uniform(values >> 18, 64)


def test_steps_are_uncorrelated() -> None:
    source = stream([0])
    steps = [source.uniform(step(i), 64, 64).flatten() for i in range(100)]
    assert largest_correlation(torch.stack(steps)) < 5


def test_members_are_uncorrelated_also_with_neighbouring_seeds() -> None:
    u = stream(range(100)).uniform(step(4), 64, 64)
    assert largest_correlation(u.transpose(0, 1).flatten(1)) < 5


def test_streams_of_one_seed_are_uncorrelated() -> None:
    names = ["dropout", "flip", "erase", "translate", "crop", "rotate"]
    numbers = [stream([0], name).uniform(step(4), 64, 64).flatten() for name in names]
    assert largest_correlation(torch.stack(numbers)) < 5


def test_no_step_repeats_another_one_shifted() -> None:
    first, second = (stream([0]).uniform(step(i), 128, 128).flatten() - 0.5 for i in (0, 1))
    spectrum = torch.fft.rfft(first) * torch.fft.rfft(second).conj()
    correlation = torch.fft.irfft(spectrum) * 12 / len(first)  # at every shift
    assert correlation.abs().max() * len(first) ** 0.5 < 6


def test_a_member_draws_the_same_numbers_alone_and_in_any_bank() -> None:
    bank = stream([4, 7, 4, 9]).bits(step(12), 32, 10)
    assert bank.shape == (32, 4, 10)
    for k, seed in enumerate([4, 7, 4, 9]):
        assert torch.equal(bank[:, [k]], stream([seed]).bits(step(12), 32, 10))


def test_numbers_are_a_function_of_the_step_not_of_what_was_drawn_before() -> None:
    used = stream([4])
    for i in range(5):
        used.bits(step(i), 8, 3)
    assert torch.equal(used.bits(step(2), 8, 3), stream([4]).bits(step(2), 8, 3))


def test_a_smaller_batch_draws_the_beginning_of_a_larger_one() -> None:
    assert torch.equal(stream([4]).bits(step(2), 8, 3), stream([4]).bits(step(2), 64, 3)[:8])


def test_the_step_counter_is_left_as_it_is() -> None:
    clock = step(3)
    stream([0, 1]).bits(clock, 4, 4)
    assert clock == 3


@pytest.mark.parametrize("probability", [0.0, 0.001, 0.2, 0.5, 0.999, 1.0])
def test_bits_fall_below_the_threshold_with_its_probability(probability: float) -> None:
    below = stream([1]).bits(step(0), 1000, 1000) < threshold(probability)
    error = 5 * (probability * (1 - probability)) ** 0.5 / 1000
    assert below.double().mean().item() == pytest.approx(probability, abs=error)


def test_derived_seeds_are_stable_distinct_and_fit_63_bits() -> None:
    # A change here would change every published figure.
    assert derive(0, "order", 1) == 5094981735435818475
    seeds = {derive(seed, name, i) for seed in range(20) for name in "ab" for i in range(20)}
    assert len(seeds) == 800
    assert all(0 <= seed < 1 << 63 for seed in seeds)
    assert derive(1, "2", 3) != derive(12, "3")


def test_a_generator_depends_on_seed_and_names() -> None:
    first, again, other = (
        torch.rand(8, generator=generator(0, "init", name)) for name in ("a", "a", "b")
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
