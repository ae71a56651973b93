"""What the data prove about a level, in a word."""

from analysis.statistics.effects import Effect
from analysis.statistics.power import ALPHA

# Two pairs leave one degree of freedom: accuracies are counts, and two differences that happen
# to agree would look certain.
FEWEST_PAIRS = 3
PROVEN = ("better", "worse")


def verdict(effect: Effect) -> str:
    """Say in a word what the data prove about a level, at 5 % after Holm's correction."""
    if effect.n == 0:
        return "not run"
    if effect.is_reference:
        return "reference"
    if effect.delta == effect.delta_low == effect.delta_high == 0:
        return "identical"
    if effect.compared < FEWEST_PAIRS:
        return "too few"
    if effect.delta is None or effect.p_holm is None or effect.p_holm > ALPHA:
        return "not proven"
    return "better" if effect.delta > 0 else "worse"
