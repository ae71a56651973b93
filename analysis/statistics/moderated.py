"""Variances of many groups of few values each: every group borrows from the others.

With five values a variance has four degrees of freedom and may be wrong by a factor of two. Where
the variances of many groups are alike, each is better estimated by a weighted mean of itself and
of what is usual (Smyth, "Linear models and empirical Bayes methods for assessing differential
expression in microarray experiments", Stat. Appl. Genet. Mol. Biol. 3, 2004). How alike they are
is seen from how they differ, beyond what so few values make them differ. The less likely a variance
is so large, the less does its group borrow, and one that is far out keeps its own: nothing is
claimed for it on the strength of the others (after Phipson et al., "Robust hyperparameter
estimation protects against hypervariable genes", Ann. Appl. Stat. 10, 2016).

Pure functions over arrays.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from analysis.statistics.arrays import Array

WEIGHTS = np.arange(0.05, 1.0, 0.05)  # of the prior against a group's own variance
USUAL = 0.3  # chance, under the prior, of a variance so large that a group borrows less
LEAST_LENT = 0.2  # of its own degrees of freedom: all that a group in many comparisons borrows
SMALLEST = 0.01  # of the mean variance: accuracies are counts, and those of few seeds may coincide
ROUNDS = 100  # of the fixed point for the scale, which gains a digit in about two


@dataclass(frozen=True)
class Prior:
    """What is usual: variances are `scale` times `freedom` over a chi square with `freedom`."""

    scale: float
    freedom: float


@dataclass(frozen=True)
class Moderated:
    """Variances after borrowing, and how many degrees of freedom each is worth; shapes (g,)."""

    variances: Array
    freedoms: Array
    prior: Prior


def fit_prior(variances: ArrayLike, freedoms: ArrayLike) -> Prior:
    """Estimate what is usual from the variances of groups.

    Each variance over the scale has an F distribution. The weight of the prior against a usual
    group's own variance, freedom / (freedom + its own), is taken for equally likely to be anything
    between 0 and 1; its posterior mean counts. Unlike the fit by moments of Smyth 2004, this never
    takes a few variances that happen to agree for proof that all are equal.

    Args:
        variances: shape (g,), positive.
        freedoms: shape (g,), degrees of freedom of each.
    """
    s2, df = np.asarray(variances, float), np.asarray(freedoms, float)
    usual = float(np.median(df))
    freedom = (usual * WEIGHTS / (1 - WEIGHTS))[:, None]
    scale = np.full((len(WEIGHTS), 1), s2.mean())
    for _ in range(ROUNDS):  # towards the most likely scale for each weight
        terms = (df + freedom) / (freedom * scale + df * s2)
        scale = len(s2) / terms.sum(axis=1, keepdims=True)
    likelihood = np.sum(
        special.gammaln((df + freedom) / 2)
        - special.gammaln(freedom / 2)
        - special.gammaln(df / 2)
        + freedom / 2 * np.log(freedom * scale)
        + df / 2 * np.log(df)
        + (df / 2 - 1) * np.log(s2)
        - (df + freedom) / 2 * np.log(freedom * scale + df * s2),
        axis=1,
    )
    posterior = np.exp(likelihood - likelihood.max())
    posterior /= posterior.sum()
    weight = float(posterior @ WEIGHTS)
    return Prior(float(posterior @ scale[:, 0]), usual * weight / (1 - weight))


def moderate(
    variances: ArrayLike, freedoms: ArrayLike, shared: ArrayLike | None = None
) -> Moderated:
    """Let every group borrow from the others.

    Args:
        variances: shape (g,), at least 0; not all 0.
        freedoms: shape (g,), degrees of freedom of each.
        shared: shape (g,), true for those that many share: they lend, and borrow little.
    """
    s2, df = np.asarray(variances, float), np.asarray(freedoms, float)
    s2 = np.maximum(s2, SMALLEST * s2.mean())
    prior = fit_prior(s2, df)
    lent = np.full(s2.shape, prior.freedom)
    lent *= np.minimum(1, special.fdtrc(df, prior.freedom, s2 / prior.scale) / USUAL)
    if shared is not None:
        lent = np.where(shared, np.minimum(lent, LEAST_LENT * df), lent)
    return Moderated(
        variances=(lent * prior.scale + df * s2) / (lent + df),
        # Nothing is known better than by all values together.
        freedoms=np.minimum(lent + df, df.sum()),
        prior=prior,
    )
