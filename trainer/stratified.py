"""Random orders in which every prefix has the classes' proportions. No torch here."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def stratified_order(labels: NDArray[Any], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return a random order of the images in which every prefix has the classes' proportions.

    The j-th of a class's n images (in random order) is placed at (j + u) / n, u uniform; so subsets
    of growing size are nested, and each class is within one image or so of its share.
    """
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        rank = rng.permutation(len(members))
        place[members] = (rank + rng.random()) / len(members)
    return np.argsort(place, kind="stable")
