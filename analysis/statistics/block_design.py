"""Many variants on the same replicate seeds, compared with a common control: a block design.

The values of a study follow variant + seed, and what is left is the variants' own scatter.
Differences are estimated by least squares over all cells that are there; without missing cells each
is the mean of its paired differences. The scatter of a variant is estimated from its residuals and
moderated by those of the others (`moderated`). What others are compared with hardly borrows: its
error is in every comparison at once, so that to borrow wrongly would be wrong in all of them.

Pure functions over arrays. docs/statistics.md has the simulations that this rests on.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import linalg, special

from analysis.statistics.arrays import Array
from analysis.statistics.dunnett import loadings, two_sided_tail
from analysis.statistics.effect_sizes import ROUNDING
from analysis.statistics.moderated import moderate
from analysis.statistics.power import ALPHA
from analysis.statistics.simultaneous import Judgement, Statistic, judge

Comparison = tuple[Hashable, Hashable]  # a variant, and the one it is compared with
Values = Mapping[Hashable, Mapping[Any, float]]  # by variant and seed
FEWEST_PAIRS = 2
DIGITS = 12  # of a difference
ROOT = 1e-6  # of a covariance's root, smallest to largest: else some differences follow from others
ESTIMABLE = 1e-9  # of numbers that are at most 1, and would be 0 but for rounding


@dataclass(frozen=True)
class Estimate:
    """Variant minus reference, and what may be said of it beside the table's other comparisons."""

    n: int  # seeds that both have; if not paired, the size of the smaller sample
    paired: bool
    delta: float
    error: float | None = None  # standard error; None: there is no spread to judge by
    freedom: float | None = None  # degrees of freedom of that
    judgement: Judgement | None = None


@dataclass(frozen=True)
class Omnibus:
    """Whether any of several comparisons differs from 0: an F test."""

    f: float
    degrees: int
    error_degrees: float
    p_value: float


NO_CHANGE = Judgement(low=0.0, high=0.0, bound=0.0, p_single=1.0, p_value=1.0, p_negligible=0.0)


def compare(
    comparisons: Sequence[Comparison],
    values: Values,
    negligible: float | None = None,
    alpha: float = ALPHA,
) -> dict[Comparison, Estimate]:
    """Estimate all comparisons of a table, and judge them together.

    A comparison with fewer than two common seeds is judged by Welch's t, marked as not paired, and
    corrected with the others; one with too few values for that has a difference alone, and one
    without any value of either variant is left out. A variant whose values are all those of its
    reference has the interval [0, 0] and p = 1.

    Args:
        comparisons: a variant and the one it is compared with; repeated ones count once.
        values: finite; variants in no comparison help to estimate the seeds and what is usual.
        negligible: a difference, in the unit of the values, that would not matter.
        alpha: chance of any false claim.
    """
    design = BlockDesign(comparisons, values)
    estimates = {}
    for pair in dict.fromkeys(comparisons):
        if pair[0] != pair[1] and (estimate := design.estimate(pair)) is not None:
            estimates[pair] = estimate
    modelled = set(design.comparisons)
    unpaired = [
        (pair, Statistic(estimate.delta, estimate.error, estimate.freedom))
        for pair, estimate in estimates.items()
        if pair not in modelled and estimate.error and estimate.freedom
    ]
    judged = [*zip(design.comparisons, design.statistics(), strict=True), *unpaired]
    if judged:
        groups = [*design.groups(), *[np.zeros(1)] * len(unpaired)]
        verdicts = judge([statistic for _, statistic in judged], groups, negligible, alpha)
        for (pair, _), verdict in zip(judged, verdicts, strict=True):
            if estimates[pair].judgement is None:
                estimates[pair] = Estimate(**{**vars(estimates[pair]), "judgement": verdict})
    return estimates


class BlockDesign:
    """The model variant + seed, fitted to the cells that are there.

    Attributes:
        comparisons: those that the model judges: at least two common seeds, and a spread.
    """

    def __init__(self, comparisons: Sequence[Comparison], values: Values) -> None:
        self.values = values
        self.variants = [variant for variant, row in values.items() if row]
        self._rows = {variant: row for row, variant in enumerate(self.variants)}
        self.references = {reference for _, reference in comparisons}
        seeds = list(dict.fromkeys(seed for row in values.values() for seed in row))
        self.y = np.array([value for name in self.variants for value in values[name].values()])
        counts = [len(values[name]) for name in self.variants]
        self.row = np.repeat(np.arange(len(counts)), counts)  # of each value
        ends = np.cumsum([0, *counts])
        self._cells = [slice(*bounds) for bounds in pairwise(ends.tolist())]  # of each variant
        number = {seed: place for place, seed in enumerate(seeds)}
        column = [number[seed] for name in self.variants for seed in values[name]]
        # Least squares in two steps: variants are taken out of values and seeds by their means,
        # then what is left of the values is explained by what is left of the few seeds.
        indicators = np.eye(len(seeds))[column].reshape(len(column), len(seeds))
        self._seed_shares = self._means(indicators)
        self._basis, self._solve = _least_squares(indicators - self._seed_shares[self.row])
        self.residual_degrees = len(column) - len(counts) - self._basis.shape[1]
        self.comparisons = [
            pair for pair in dict.fromkeys(comparisons) if pair[0] != pair[1] and self._spread(pair)
        ]
        self._numbers = {pair: number for number, pair in enumerate(self.comparisons)}

    def _spread(self, pair: Comparison) -> bool:
        if len(paired(self.values, pair)) < FEWEST_PAIRS:
            return False
        variance = float(np.sum(self._weights([pair]) ** 2 * self.scatter[0][self.row]))
        return variance > ROUNDING**2

    def _means(self, values: Array) -> Array:
        """Average values, [cell] or [cell, ...], over each variant."""
        means = [values[cells].mean(axis=0) for cells in self._cells]
        return np.array(means).reshape(len(self._cells), *values.shape[1:])

    @cached_property
    def _seed_effects(self) -> Array:
        """What each value counts for in each seed's effect, [seed, cell]."""
        effects: Array = self._solve.T @ self._basis.T
        return effects

    @property
    def _sides(self) -> tuple[list[int], list[int]]:
        """The rows of the comparisons' variants, and of what each is compared with."""
        level, reference = (
            [self._rows[pair[side]] for pair in self.comparisons] for side in (0, 1)
        )
        return level, reference

    def _weights(self, comparisons: Sequence[Comparison]) -> Array:
        weights: Array = np.zeros((len(comparisons), len(self.y)))
        shares = self._seed_shares
        for number, pair in enumerate(comparisons):
            level, reference = (self._rows[variant] for variant in pair)
            weights[number] = (shares[reference] - shares[level]) @ self._seed_effects
            for row, sign in ((level, 1), (reference, -1)):
                cells = self._cells[row]
                weights[number, cells] += sign / (cells.stop - cells.start)
        return weights

    @cached_property
    def weights(self) -> Array:
        """What each value counts for in each difference, [comparison, cell]."""
        return self._weights(self.comparisons)

    @cached_property
    def deltas(self) -> Array:
        """The differences, shape (comparisons,)."""
        level, reference = self._sides
        means = self._means(self.y)
        seeds = self._solve.T @ (self._basis.T @ (self.y - means[self.row]))
        adjusted = means - self._seed_shares @ seeds  # as if all had the same seeds
        # Rounded, so that no processor's last digit decides how a tie is printed.
        deltas: Array = np.round(adjusted[level] - adjusted[reference], DIGITS)
        return deltas

    @property
    def _residual(self) -> Array:
        inside = self.y - self._means(self.y)[self.row]  # about the variants' means
        residual: Array = inside - self._basis @ (self._basis.T @ inside)
        return residual

    @cached_property
    def scatter(self) -> tuple[Array, Array]:
        """Variances of the variants about the model, and their degrees of freedom.

        Shapes (variants,). Mean and variance of a variant's sum of squared residuals give its
        variance and degrees of freedom: without missing cells exactly n - 1.
        """
        residual = self._residual
        variances, freedoms = np.zeros(len(self.variants)), np.zeros(len(self.variants))
        for row, cells in enumerate(self._cells):
            size = cells.stop - cells.start
            free = np.eye(size) - 1 / size - self._basis[cells] @ self._basis[cells].T
            if (trace := float(np.trace(free))) > ESTIMABLE:
                variances[row] = np.sum(residual[cells] ** 2) / trace
                freedoms[row] = trace**2 / np.sum(free**2)
        estimable = freedoms > 0
        if np.any(variances > ROUNDING**2):
            shared = np.array([variant in self.references for variant in self.variants])
            moderated = moderate(variances[estimable], freedoms[estimable], shared[estimable])
            variances[estimable], freedoms[estimable] = moderated.variances, moderated.freedoms
        return variances, freedoms

    @cached_property
    def covariance(self) -> Array:
        """The covariance of the differences, [comparison, comparison].

        That of the variants' adjusted means (their own means minus those of their seeds' effects),
        of whose parts only the effects of the few seeds have anything in common.
        """
        variances, shares = self.scatter[0], self._seed_shares
        effects = self._seed_effects
        weighted = effects * variances[self.row]
        crossed = self._means(weighted.T) @ shares.T
        sizes = np.array([cells.stop - cells.start for cells in self._cells])
        means = shares @ (weighted @ effects.T) @ shares.T - crossed - crossed.T
        means[np.diag_indices_from(means)] += variances / sizes
        level, reference = self._sides
        differences = means[level] - means[reference]
        covariance: Array = differences[:, level] - differences[:, reference]
        return covariance

    @cached_property
    def freedoms(self) -> Array:
        """Degrees of freedom of each difference's variance (Satterthwaite 1946)."""
        variances, variant_freedoms = self.scatter
        starts = [cells.start for cells in self._cells]
        squares = np.add.reduceat(self.weights**2, starts, axis=1)
        parts = (squares * variances).T  # of the differences' variances, [variant, comparison]
        usable = variant_freedoms > 0
        below = np.sum(parts[usable] ** 2 / variant_freedoms[usable, None], axis=0)
        freedoms: Array = np.minimum(parts.sum(axis=0) ** 2 / below, self.residual_degrees)
        return freedoms

    def statistics(self) -> list[Statistic]:
        """Return each comparison with its errors, of the model and of its own pairs."""
        errors = np.sqrt(np.diag(self.covariance))
        return [
            Statistic(delta, error, freedom, *pair_error(paired(self.values, pair)))
            for pair, delta, error, freedom in zip(
                self.comparisons,
                self.deltas.tolist(),
                errors.tolist(),
                self.freedoms.tolist(),
                strict=True,
            )
        ]

    def groups(self) -> list[Array]:
        """For each reference, what its comparisons load on its error; see `dunnett`."""
        sd = np.sqrt(np.diag(self.covariance))
        correlation = self.covariance / np.outer(sd, sd)
        groups = []
        for reference in dict.fromkeys(reference for _, reference in self.comparisons):
            inside = np.array([reference == other for _, other in self.comparisons])
            row = self._rows[reference]
            weights = self.weights[inside, self._cells[row]]
            shared = np.sum(weights**2, axis=1) * self.scatter[0][row]
            groups.append(loadings(correlation[np.ix_(inside, inside)], shared / sd[inside] ** 2))
        return groups

    def estimate(self, pair: Comparison) -> Estimate | None:
        """Estimate a comparison by itself: in the model or, with too few pairs, by Welch's t."""
        level, reference = (list(self.values.get(variant, {}).values()) for variant in pair)
        if not level or not reference:
            return None
        deltas = paired(self.values, pair)
        if len(deltas) >= FEWEST_PAIRS and np.all(np.abs(deltas) < ROUNDING):
            return Estimate(len(deltas), True, 0.0, judgement=NO_CHANGE)
        if (number := self._numbers.get(pair)) is not None:
            return Estimate(
                len(deltas),
                True,
                float(self.deltas[number]),
                math.sqrt(self.covariance[number, number]),
                float(self.freedoms[number]),
            )
        if len(deltas) >= FEWEST_PAIRS or (len(deltas) and min(len(level), len(reference)) < 2):
            return Estimate(len(deltas), True, float(deltas.mean()))
        return _welch(level, reference)

    def omnibus(self, comparisons: Sequence[Comparison]) -> Omnibus | None:
        """Test whether any of some comparisons differs from 0; None where none can be judged.

        An F test with the differences' covariance, and the fewest degrees of freedom among them.
        Of a single comparison it is the t test, never surer than that of its own pairs.
        """
        which = [
            self._numbers[pair] for pair in dict.fromkeys(comparisons) if pair in self._numbers
        ]
        if not which:
            return None
        deltas, covariance = self.deltas[which], self.covariance[np.ix_(which, which)]
        degrees, squares = _squares(deltas, covariance)
        f = squares / degrees
        error_degrees = float(self.freedoms[which].min())
        p_value = float(special.fdtrc(degrees, error_degrees, f))
        if len(which) == 1:
            error, freedom = pair_error(paired(self.values, self.comparisons[which[0]]))
            if error > 0:
                p_value = max(p_value, float(two_sided_tail(deltas[0] / error, freedom)))
        return Omnibus(f, degrees, error_degrees, p_value)


def _least_squares(columns: Array) -> tuple[Array, Array]:
    """Return an orthonormal basis of a model's columns, and what turns it into coefficients."""
    if not columns.size:
        return np.zeros((len(columns), 0)), np.zeros((0, columns.shape[1]))
    left, sizes, right = np.linalg.svd(columns, full_matrices=False)
    rank = int(np.sum(sizes > ESTIMABLE * max(1.0, sizes.max())))
    return left[:, :rank], right[:rank] / sizes[:rank, None]


def _squares(deltas: Array, covariance: Array) -> tuple[int, float]:
    """Return the rank of a covariance, and the squared length of deltas in its units."""
    try:
        root = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        root = np.zeros_like(covariance)
    if (diagonal := np.diag(root)).min() > ROOT * diagonal.max():
        return len(deltas), float(np.sum(linalg.solve_triangular(root, deltas, lower=True) ** 2))
    rank = int(np.linalg.matrix_rank(covariance))
    return rank, float(deltas @ np.linalg.pinv(covariance) @ deltas)


def paired(values: Values, pair: Comparison) -> Array:
    """Return the differences of a comparison on the seeds that both variants have."""
    level, reference = (values.get(variant, {}) for variant in pair)
    return np.array([level[seed] - reference[seed] for seed in level if seed in reference])


def pair_error(deltas: Array) -> tuple[float, float]:
    """Return the standard error of a mean of paired differences, and its degrees of freedom."""
    error = float(np.std(deltas, ddof=1)) / math.sqrt(len(deltas))
    return (error if error > ROUNDING else 0.0), len(deltas) - 1.0


def _welch(level: Sequence[float], reference: Sequence[float]) -> Estimate:
    delta, n = float(np.mean(level) - np.mean(reference)), min(len(level), len(reference))
    if n < FEWEST_PAIRS:
        return Estimate(n, False, delta)
    parts = np.array([np.var(sample, ddof=1) / len(sample) for sample in (level, reference)])
    if parts.sum() < ROUNDING**2:
        same = abs(delta) < ROUNDING
        return Estimate(n, False, 0.0 if same else delta, judgement=NO_CHANGE if same else None)
    below = np.sum(parts**2 / (np.array([len(level), len(reference)]) - 1))
    return Estimate(n, False, delta, math.sqrt(parts.sum()), float(parts.sum() ** 2 / below))
