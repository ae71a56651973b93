"""The Pareto front: what nothing else beats in every objective at once."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def front(points: ArrayLike, directions: Sequence[str]) -> NDArray[np.bool_]:
    """Mark the points that no other point dominates.

    A point dominates another that it equals or betters in every objective and betters in at
    least one; equal points do not dominate each other. A point with a value that is not finite
    is never on the front.

    Args:
        points: shape (n, d), a row per point and a column per objective.
        directions: shape (d,), "MAXIMIZE" or "MINIMIZE" for each objective.

    Returns:
        Shape (n,), true for points on the front.
    """
    signs = np.array([-1.0 if direction == "MAXIMIZE" else 1.0 for direction in directions])
    costs = np.asarray(points, float).reshape(-1, len(signs)) * signs
    marked = np.zeros(len(costs), bool)
    kept = np.empty((0, len(signs)))
    # In lexicographic order a point can be dominated by earlier ones only, and, as dominance is
    # transitive, by one of the front so far: n comparisons with the front (Kung et al. 1975).
    for index in np.lexsort(costs.T[::-1]):
        cost = costs[index]
        if not np.isfinite(cost).all():
            continue
        if not ((kept <= cost).all(axis=1) & (kept < cost).any(axis=1)).any():
            marked[index] = True
            kept = np.vstack([kept, cost])
    return marked
