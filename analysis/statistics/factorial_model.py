"""A linear model of factors, pairs of them and seeds: what it explains, leaves and estimates.

Pure functions over arrays; statsmodels is imported where it is needed, as it takes most of a
second.
"""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.statistics.arrays import Array
from analysis.statistics.contrasts import ContrastFit, TermError, effect_coding

MOST_COLUMNS = 200  # of a model: levels of factors, and pairs of them
SEEDS = "seed x term"
WITHIN_SEEDS = "runs within seeds"


@dataclass(frozen=True)
class Observation:
    """One run: a level of every factor, and the block that it shares with runs of other cells."""

    levels: Mapping[str, Hashable]
    block: Hashable
    value: float


@dataclass(frozen=True)
class LevelMean:
    """A level of a factor, averaged evenly over the levels of the others."""

    factor: str
    level: Any
    n: int
    mean: float
    deviation: float  # from the mean of all levels, with its 95 % interval
    low: float
    high: float
    difference: float  # from the factor's reference level, with its 95 % interval
    difference_low: float
    difference_high: float


@dataclass(frozen=True)
class PairMean:
    """A pair of levels of two factors: what the two do together beyond their sum."""

    factors: tuple[str, str]
    levels: tuple[Any, Any]
    n: int
    mean: float
    deviation: float  # of the mean from the sum of both main effects, with its 95 % interval
    low: float
    high: float


def _crossed(a: Array, b: Array) -> Array:
    """Return the columns of an interaction: each of one term times each of the other."""
    columns: Array = (a[:, :, None] * b[:, None, :]).reshape(len(a), -1)
    return columns


class FactorialModel:
    """The runs as arrays: a code per factor and block, and the columns of a linear model."""

    def __init__(
        self, factors: Mapping[str, Sequence[Hashable]], observations: Sequence[Observation]
    ) -> None:
        self.factors = factors
        usable = [
            run
            for run in observations
            if all(run.levels[name] in levels for name, levels in factors.items())
        ]
        self.values = np.array([run.value for run in usable])
        self.codes = {
            name: np.array([list(levels).index(run.levels[name]) for run in usable])
            for name, levels in factors.items()
        }
        cells = [tuple(run.levels[name] for name in factors) for run in usable]
        numbers = {cell: number for number, cell in enumerate(dict.fromkeys(cells))}
        self.cells = np.array([numbers[cell] for cell in cells])
        shared = Counter(run.block for run in usable)
        blocks = list(dict.fromkeys(run.block for run in usable))
        # Blocks that no two runs share would explain everything.
        self.blocks = blocks if max(shared.values()) > 1 else blocks[:1]
        self.block = np.array(
            [self.blocks.index(run.block) if len(self.blocks) > 1 else 0 for run in usable]
        )
        runs = Counter(zip(self.cells.tolist(), self.block.tolist(), strict=True))
        full = math.prod(map(len, factors.values())) * len(self.blocks)
        self.balanced = len(runs) == full and len(set(runs.values())) == 1

    @property
    def total(self) -> float:
        """Sum of squares about the mean."""
        return float(np.sum((self.values - self.values.mean()) ** 2))

    def crosses(self, pair: tuple[str, str]) -> bool:
        """Whether every level of one factor was run with every level of the other."""
        first, second = pair
        seen = set(zip(self.codes[first].tolist(), self.codes[second].tolist(), strict=True))
        return len(seen) == len(self.factors[first]) * len(self.factors[second])

    def _columns(self, pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, ...], Array]:
        """Return the model's columns by term; `()` are the blocks, if there are several."""
        columns: dict[tuple[str, ...], Array] = {
            (name,): effect_coding(len(levels))[self.codes[name]]
            for name, levels in self.factors.items()
        }
        for first, second in pairs:
            columns[first, second] = _crossed(columns[first,], columns[second,])
        if len(self.blocks) > 1:
            columns[()] = effect_coding(len(self.blocks))[self.block]
        return columns

    def _matrix(self, pairs: Iterable[tuple[str, str]]) -> Array:
        ones = np.ones((len(self.values), 1))
        return np.hstack([ones, *self._columns(pairs).values()])

    def tells_apart(self, pairs: Sequence[tuple[str, str]]) -> bool:
        """Whether the runs determine every effect of a model."""
        sizes = {name: len(levels) - 1 for name, levels in self.factors.items()}
        columns = (
            len(self.blocks) + sum(sizes.values()) + sum(sizes[a] * sizes[b] for a, b in pairs)
        )
        if columns > min(MOST_COLUMNS, len(self.values)):
            return False
        return int(np.linalg.matrix_rank(self._matrix(pairs))) == columns

    def residual(self, pairs: Sequence[tuple[str, str]]) -> tuple[float, int]:
        """Return what a model leaves: sum of squares, and degrees of freedom."""
        matrix = self._matrix(pairs)
        fitted = matrix @ np.linalg.lstsq(matrix, self.values)[0]
        return float(np.sum((self.values - fitted) ** 2)), len(self.values) - matrix.shape[1]

    def between_seeds(
        self, term: tuple[str, ...], pairs: Sequence[tuple[str, str]]
    ) -> TermError | None:
        """Return how much a term differs between seeds, as a variance of a run; None: unknown."""
        if len(self.blocks) == 1:
            return None
        columns = self._columns(pairs)
        crossed = _crossed(columns[term], columns[()])
        matrix = self._matrix(pairs)
        within = np.linalg.qr(matrix)[0]
        crossed = crossed - within @ (within.T @ crossed)
        basis, sizes, _ = np.linalg.svd(crossed, full_matrices=False)
        basis = basis[:, sizes > 1e-9 * max(1.0, float(sizes.max()))]
        degrees = basis.shape[1]
        variance = float(np.sum((basis.T @ self.values) ** 2)) / max(1, degrees)
        known = degrees and variance > self._rounding
        return TermError(variance, degrees, SEEDS) if known else None

    def within_seeds(self, pairs: Sequence[tuple[str, str]]) -> TermError | None:
        """Return the variance that no cell, seed or seed x term explains; None: unknown."""
        if len(self.blocks) == 1:
            return None
        columns = self._columns(pairs)
        seeds = columns.pop(())
        left = self.pure_error([_crossed(effect, seeds) for effect in columns.values()])
        if left is None or left[0] / left[1] <= self._rounding:
            return None
        return TermError(left[0] / left[1], left[1], WITHIN_SEEDS)

    @property
    def _rounding(self) -> float:
        return 1e-20 * self.total

    def pure_error(self, further: Sequence[Array] = ()) -> tuple[float, int] | None:
        """Return what is left when every cell and block has its mean; None without replicates.

        Args:
            further: columns that explain the runs, too.
        """
        explained = np.hstack([effect_coding(len(self.blocks))[self.block], *further])
        y, x = (self._within_cells(columns) for columns in (self.values[:, None], explained))
        degrees = len(y) - len(set(self.cells)) - int(np.linalg.matrix_rank(x) if x.size else 0)
        if degrees <= 0:
            return None
        left = y - x @ np.linalg.lstsq(x, y)[0] if x.size else y
        return float(np.sum(left**2)), degrees

    def _within_cells(self, columns: Array) -> Array:
        sums = np.zeros((self.cells.max() + 1, columns.shape[1]))
        np.add.at(sums, self.cells, columns)
        means: Array = sums / np.bincount(self.cells)[:, None]
        within: Array = columns - means[self.cells]
        return within

    def sums_of_squares(
        self, pairs: Sequence[tuple[str, str]]
    ) -> dict[tuple[str, ...], tuple[float, int]]:
        """Return sum of squares (type II) and degrees of freedom by term, by statsmodels."""
        from pandas import DataFrame
        from statsmodels.formula.api import ols
        from statsmodels.stats.anova import anova_lm

        # Factors may have any name: in the formula they are numbered.
        names = {name: f"C(f{number})" for number, name in enumerate(self.factors)}
        terms: dict[str, tuple[str, ...]] = {text: (name,) for name, text in names.items()}
        terms |= {f"{names[a]}:{names[b]}": (a, b) for a, b in pairs}
        if len(self.blocks) > 1:
            terms["C(block)"] = ()
        data = {f"f{number}": codes for number, codes in enumerate(self.codes.values())}
        frame = DataFrame(data | {"block": self.block, "y": self.values - self.values.mean()})
        table = anova_lm(ols(f"y ~ {' + '.join(terms)}", frame).fit(), typ=2)
        return {
            name: (float(table["sum_sq"][text]), int(table["df"][text]))
            for text, name in terms.items()
        }

    def fit(
        self, pairs: Sequence[tuple[str, str]], errors: Mapping[tuple[str, ...], TermError]
    ) -> ContrastFit:
        """Fit a model, given the error of each term."""
        matrix = self._matrix(pairs)
        where, start = {}, 1
        for term, columns in self._columns(pairs).items():
            where[term] = slice(start, start + columns.shape[1])
            start += columns.shape[1]
        return ContrastFit(
            np.linalg.lstsq(matrix, self.values)[0],
            np.linalg.inv(matrix.T @ matrix),
            where,
            errors,
        )

    def level_means(self, fit: ContrastFit) -> list[LevelMean]:
        """Estimate each level, averaged evenly over the levels of the other factors."""
        means = []
        for name, levels in self.factors.items():
            rows = effect_coding(len(levels))
            for number, level in enumerate(levels):
                deviation = fit.estimate((name,), rows[number])
                apart = fit.estimate((name,), rows[number] - rows[0])
                n = int(np.sum(self.codes[name] == number))
                mean = fit.mean + deviation[0]
                means.append(LevelMean(name, level, n, mean, *deviation, *apart))
        return means

    def pair_means(self, fit: ContrastFit, pairs: Iterable[tuple[str, str]]) -> list[PairMean]:
        """Estimate each pair of levels, and how far it is from the sum of both effects."""
        means = []
        for first, second in pairs:
            rows, others = (effect_coding(len(self.factors[name])) for name in (first, second))
            for i, level in enumerate(self.factors[first]):
                for j, other in enumerate(self.factors[second]):
                    deviation = fit.estimate((first, second), np.outer(rows[i], others[j]).ravel())
                    alone = (
                        fit.estimate((first,), rows[i])[0] + fit.estimate((second,), others[j])[0]
                    )
                    n = int(np.sum((self.codes[first] == i) & (self.codes[second] == j)))
                    mean = fit.mean + alone + deviation[0]
                    means.append(PairMean((first, second), (level, other), n, mean, *deviation))
        return means
