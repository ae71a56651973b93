"""What explains the variance of a factorial: main effects, and how factors act on each other.

An analysis of variance by least squares (Fisher 1925; sums of squares of type II as statsmodels
computes them: each term given all others that do not contain it). Replicate seeds are blocks, as
the same seed is the same split and data order in every cell. What a factor does differs from seed
to seed, and by that its effect is judged: a term's error is its interaction with the seeds, as in
any design with repeated measures, or what is left within seeds, whichever proves less.
"""

import math
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from typing import Any

from scipy import special

from analysis.statistics.contrasts import TermError
from analysis.statistics.factorial_model import FactorialModel, LevelMean, Observation, PairMean
from analysis.statistics.paired import holm
from analysis.statistics.rows import baseline_level, seeds_are_known
from analysis.trials import Trial, finished

HIGHER = "interactions of three and more factors"
PAIRWISE = "interactions of two factors"
REPLICATES = "replicates"
UNTESTED = "interactions that are in no term"


@dataclass(frozen=True)
class Term:
    """A source of variance: one factor, two that act on each other, or what is left."""

    factors: tuple[str, ...]  # () for blocks, further interactions and the error
    sum_squares: float
    degrees: int
    f: float | None  # mean square over that of its error
    error_degrees: int | None  # of what it is judged by
    error_source: str | None  # SEEDS: how the term differs between them; WITHIN_SEEDS; as `Anova`'s
    p_value: float | None
    p_holm: float | None  # corrected over all factors and pairs together
    eta_squared: float  # share of the total sum of squares
    omega_squared: float | None  # the same as an estimate without the upward bias, at least 0


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
    may differ between them, and cells of one seed share that; or by what is left when every term
    may, whichever proves less. Elsewhere the error comes from replicates where there are any: what
    is left when every cell has its own mean, and every block. With a single run per cell it is
    pooled from the interactions of three and more factors, which are taken for noise; with two
    factors, from their interaction. A pair of factors with a pair of levels that was never run
    together is left out; so are all pairs, if the cells that are there cannot tell them apart.

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
    design = FactorialModel(varied, observations)
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
    design: FactorialModel, pairs: list[tuple[str, str]], left_out: dict[str, str]
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
    total = design.total
    if variance <= 1e-20 * total or total == 0:
        return "the runs differ in nothing but the factors, so there is no error to judge them by"

    general = TermError(variance, degrees, source)

    term = partial(_term, total)
    squares = design.sums_of_squares(pairs)
    names = [*((name,) for name in design.factors), *pairs]
    errors = {name: design.between_seeds(name, pairs) or general for name in names}
    within = design.within_seeds(pairs)
    terms = [
        # Few seeds may agree by chance: a term is proven by how runs differ, too.
        max(
            (term(by, name, *squares[name]) for by in (errors[name], within) if by is not None),
            key=lambda row: row.p_value or 0.0,
        )
        for name in names
    ]
    corrected = holm([row.p_value for row in terms])
    further = residual[0] - error_squares, residual[1] - degrees
    fit = design.fit(pairs, errors)
    return Anova(
        observations=len(design.values),
        blocks=len(design.blocks),
        terms=[replace(row, p_holm=p) for row, p in zip(terms, corrected, strict=True)],
        block=term(general, (), *squares[()]) if () in squares else None,
        higher=term(general, (), *further) if pure is not None and further[1] > 0 else None,
        error=term(None, (), error_squares, degrees),
        error_source=source,
        total=total,
        mean=fit.mean,
        levels=design.level_means(fit),
        pairs=design.pair_means(fit, pairs),
        balanced=design.balanced,
        left_out=left_out,
    )


def _term(
    total: float, by: TermError | None, factors: tuple[str, ...], squares: float, freedom: int
) -> Term:
    """Return a term, judged by an error; None: by none."""
    term = Term(
        factors, squares, freedom,
        f=None, error_degrees=None, error_source=None, p_value=None, p_holm=None,
        eta_squared=squares / total, omega_squared=None,
    )  # fmt: skip
    if by is None:
        return term
    f = squares / freedom / by.variance
    return replace(
        term,
        f=f,
        error_degrees=by.degrees,
        error_source=by.source,
        p_value=float(special.fdtrc(freedom, by.degrees, f)),
        omega_squared=max(0.0, (squares - freedom * by.variance) / (total + by.variance)),
    )


def _name(pair: tuple[str, ...]) -> str:
    return " × ".join(pair)
