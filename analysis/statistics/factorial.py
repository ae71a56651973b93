"""What explains the variance of a factorial: main effects, and how factors act on each other.

An analysis of variance by least squares (Fisher 1925; sums of squares of type II as statsmodels
computes them: each term given all others that do not contain it). Replicate seeds are blocks, as
the same seed is the same split and data order in every cell. What a factor does differs from seed
to seed, and by that its effect is judged: a term's error is its interaction with the seeds, as in
any design with repeated measures. Pure functions over arrays; statsmodels is imported where it is
needed, as it takes most of a second.
"""

import math
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from scipy import special

from analysis.statistics.arrays import Array
from analysis.statistics.contrasts import ContrastFit, TermError, effect_coding
from analysis.statistics.paired import holm
from analysis.statistics.rows import baseline_level, seeds_are_known
from analysis.trials import Trial, finished

MOST_COLUMNS = 200  # of a model: levels of factors, and pairs of them
HIGHER = "interactions of three and more factors"
PAIRWISE = "interactions of two factors"
REPLICATES = "replicates"
SEEDS = "seed x term"
UNTESTED = "interactions that are in no term"


@dataclass(frozen=True)
class Observation:
    """One run: a level of every factor, and the block that it shares with runs of other cells."""

    levels: Mapping[str, Hashable]
    block: Hashable
    value: float


@dataclass(frozen=True)
class Term:
    """A source of variance: one factor, two that act on each other, or what is left."""

    factors: tuple[str, ...]  # () for blocks, further interactions and the error
    sum_squares: float
    degrees: int
    f: float | None  # mean square over that of its error
    error_degrees: int | None  # of what it is judged by
    error_source: str | None  # SEEDS: how the term differs between seeds; else as `Anova`'s
    p_value: float | None
    p_holm: float | None  # corrected over all factors and pairs together
    eta_squared: float  # share of the total sum of squares
    omega_squared: float | None  # the same as an estimate without the upward bias, at least 0


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


@dataclass(frozen=True)
class Anova:
    """The analysis of a factorial. Values, and with them sums of squares, are as they came in."""

    observations: int
    blocks: int  # seeds; 1: the runs are not replicated, or no two cells share one
    terms: list[Term]  # factors in the plan's order, then pairs
    block: Term | None
    higher: Term | None  # all interactions that are in no term, where replicates can test them
    error: Term
    error_source: str  # REPLICATES, HIGHER, PAIRWISE or UNTESTED
    total: float  # sum of squares about the mean
    mean: float  # of all cells, evenly
    levels: list[LevelMean]
    pairs: list[PairMean]
    balanced: bool  # as many runs of every cell, in every block
    left_out: dict[str, str]  # factor, or pair -> why it is in no term
    one_seed: bool = False  # all runs have the same, so that nothing is tested


def anova(plan: Mapping[str, Any], trials: Iterable[Trial]) -> Anova | str:
    """Analyse the validation accuracies of a factorial; where that is impossible, say why.

    If all runs share one seed nothing is judged: what that seed does with a factor cannot be told
    from what the factor does.
    """
    factors = {
        factor: [baseline_level(plan, factor), *levels]
        for factor, levels in plan.get("factors", {}).items()
    }
    measured = [trial for trial in finished(trials) if trial.value is not None]
    result = analyse(
        {factor: list(dict.fromkeys(levels)) for factor, levels in factors.items()},
        [
            Observation(
                {factor: trial.params.get(factor) for factor in factors}, trial.seed, trial.value
            )
            for trial in measured
            if trial.value is not None
        ],
        _chosen_pairs(plan),
    )
    seeds = {trial.seed for trial in measured}
    one = len(seeds) == 1 and seeds != {None} and seeds_are_known(plan)
    return _unjudged(result) if one and isinstance(result, Anova) else result


def _unjudged(result: Anova) -> Anova:
    """Leave out every test."""
    terms = [replace(term, f=None, p_value=None, p_holm=None) for term in result.terms]
    return replace(result, terms=terms, one_seed=True)


def _chosen_pairs(plan: Mapping[str, Any]) -> Collection[frozenset[str]] | None:
    """Return the pairs of factors that a plan's model has; None: all."""
    model = plan.get("model")
    return None if model is None else {frozenset(pair) for pair in model["pairs"]}


def analyse(
    factors: Mapping[str, Sequence[Hashable]],
    observations: Sequence[Observation],
    chosen: Collection[frozenset[str]] | None = None,
) -> Anova | str:
    """Analyse the variance of observations by factors and pairs of factors.

    With several seeds a term is judged by its interaction with the seeds: the effect of a factor
    may differ between them, and cells of one seed share that. Elsewhere the error comes from
    replicates where there are any: what is left when every cell has its own mean, and every block.
    With a single run per cell it is pooled from
    the interactions of three and more factors, which are taken for noise; with two factors, from
    their interaction. A pair of factors with a pair of levels that was never run together is left
    out; so are all pairs, if the cells that are there cannot tell them apart.

    Args:
        factors: levels of each factor, the reference first.
        observations: the runs.
        chosen: the pairs of factors that may act on each other; None: all of them.

    Returns:
        The analysis, or why there is none.
    """
    seen = {
        name: [level for level in levels if any(run.levels[name] == level for run in observations)]
        for name, levels in factors.items()
    }
    left_out = {
        name: "has results of one level only" for name, levels in seen.items() if len(levels) == 1
    }
    varied = {name: levels for name, levels in seen.items() if len(levels) > 1}
    if not varied:
        return "no factor has results of two levels"
    design = _Design(varied, observations)
    pairs = []
    for pair in combinations(varied, 2):
        if chosen is not None and frozenset(pair) not in chosen:
            left_out[_name(pair)] = "it is not in the chosen model"
        elif design.crosses(pair):
            pairs.append(pair)
        else:
            left_out[_name(pair)] = "some of their levels were never run together"
    if pairs and not design.tells_apart(pairs):
        why = "too many levels, or too few cells, to tell the pairs apart"
        left_out |= {_name(pair): why for pair in pairs}
        pairs = []
    if not design.tells_apart(pairs):
        return "the cells that are there cannot tell the factors apart"
    return _fitted(design, pairs, left_out)


def _fitted(
    design: "_Design", pairs: list[tuple[str, str]], left_out: dict[str, str]
) -> Anova | str:
    pure = design.pure_error()
    residual = design.residual(pairs)
    if pure is None and residual[1] == 0 and pairs:  # two factors, one run per cell
        left_out |= {
            _name(pair): "it is the error that the factors are judged by" for pair in pairs
        }
        pairs, source = [], PAIRWISE
        residual = design.residual(pairs)
    else:
        pooled = UNTESTED if len(pairs) < math.comb(len(design.factors), 2) else HIGHER
        source = pooled if pure is None else REPLICATES
    error_squares, degrees = residual if pure is None else pure
    if degrees == 0:
        return "there are no more runs than effects, so nothing to judge them by"
    variance = error_squares / degrees
    total = float(np.sum((design.values - design.values.mean()) ** 2))
    if variance <= 1e-20 * total or total == 0:
        return "the runs differ in nothing but the factors, so there is no error to judge them by"

    general = TermError(variance, degrees, source)

    def term(
        names: tuple[str, ...], squares: float, freedom: int, by: TermError | None = general
    ) -> Term:
        f = None if by is None else squares / freedom / by.variance
        return Term(
            factors=names,
            sum_squares=squares,
            degrees=freedom,
            f=f,
            error_degrees=None if by is None else by.degrees,
            error_source=None if by is None else by.source,
            p_value=None
            if by is None or f is None
            else float(special.fdtrc(freedom, by.degrees, f)),
            p_holm=None,
            eta_squared=squares / total,
            omega_squared=None
            if by is None
            else max(0.0, (squares - freedom * by.variance) / (total + by.variance)),
        )

    squares = design.sums_of_squares(pairs)
    names = [*((name,) for name in design.factors), *pairs]
    errors = {name: design.between_seeds(name, pairs) or general for name in names}
    terms = [term(name, *squares[name], errors[name]) for name in names]
    corrected = holm([row.p_value for row in terms])
    further = residual[0] - error_squares, residual[1] - degrees
    fit = design.fit(pairs, errors)
    return Anova(
        observations=len(design.values),
        blocks=len(design.blocks),
        terms=[Term(**{**vars(row), "p_holm": p}) for row, p in zip(terms, corrected, strict=True)],
        block=term((), *squares[()]) if () in squares else None,
        higher=term((), *further) if pure is not None and further[1] > 0 else None,
        error=term((), error_squares, degrees, None),
        error_source=source,
        total=total,
        mean=fit.mean,
        levels=design.level_means(fit),
        pairs=design.pair_means(fit, pairs),
        balanced=design.balanced,
        left_out=left_out,
    )


def _name(pair: tuple[str, ...]) -> str:
    return " × ".join(pair)


class _Design:
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
            a, b = columns[first,], columns[second,]
            columns[first, second] = (a[:, :, None] * b[:, None, :]).reshape(len(a), -1)
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
        effect, seeds = columns[term], columns[()]
        crossed = (effect[:, :, None] * seeds[:, None, :]).reshape(len(effect), -1)
        matrix = self._matrix(pairs)
        within = np.linalg.qr(matrix)[0]
        crossed = crossed - within @ (within.T @ crossed)
        basis, sizes, _ = np.linalg.svd(crossed, full_matrices=False)
        basis = basis[:, sizes > 1e-9 * max(1.0, float(sizes.max()))]
        degrees = basis.shape[1]
        variance = float(np.sum((basis.T @ self.values) ** 2)) / max(1, degrees)
        rounding = 1e-20 * float(np.sum((self.values - self.values.mean()) ** 2))
        return TermError(variance, degrees, SEEDS) if degrees and variance > rounding else None

    def pure_error(self) -> tuple[float, int] | None:
        """Return what is left when every cell and block has its mean; None without replicates."""
        blocks = effect_coding(len(self.blocks))[self.block]
        y, x = (self._within_cells(columns) for columns in (self.values[:, None], blocks))
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
