"""Which scale the values of a parameter belong on."""

import itertools
import math
from collections.abc import Sequence

# Searched over orders of magnitude, whichever of them a study happens to try.
LOGARITHMIC = {"learning_rate", "weight_decay"}
# An axis with so few levels has a tick for each.
FEW = 10


def is_logarithmic(name: str, levels: Sequence[float]) -> bool:
    """Whether ascending, different levels belong on a logarithmic scale.

    So do positive ones of a parameter that is known for it, and those whose neighbours (three
    levels or more) lie more evenly by ratio than by difference: 32, 64, 128.
    """
    if len(levels) < 2 or levels[0] <= 0:
        return False
    pairs = list(itertools.pairwise(levels))
    differences, ratios = [b - a for a, b in pairs], [math.log(b / a) for a, b in pairs]
    even = max(ratios) / min(ratios) < max(differences) / min(differences)
    return name in LOGARITHMIC or even
