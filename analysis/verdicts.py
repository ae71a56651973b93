"""What the data prove about a level, in a word."""

from analysis.statistics.effects import Effect, Row
from analysis.statistics.power import ALPHA

# Two pairs leave one degree of freedom: accuracies are counts, and two differences that happen
# to agree would look certain.
FEWEST_PAIRS = 3
PROVEN = ("better", "worse")


def verdict(effect: Effect) -> str:
    """Say in a word what the data prove about a level, at 5 % after Holm's correction."""
    if effect.n == 0:
        return _without_result(effect)
    if effect.is_reference:
        return "reference"
    if effect.delta == effect.delta_low == effect.delta_high == 0:
        return "identical"
    return "too few" if effect.compared < FEWEST_PAIRS else _proven(effect)


def _proven(effect: Effect) -> str:
    if effect.delta is None or effect.p_holm is None or effect.p_holm > ALPHA:
        return "not proven"
    # Of a variant that failed on a seed, the others are survivors: they were chosen by result.
    if effect.delta > 0:
        return "failed" if effect.failed else "better"
    return "not proven" if effect.reference_failed else "worse"


def _without_result(row: Row) -> str:
    if not row.failed:
        return "not run"
    return "diverged" if row.diverged == row.failed else "failed"


def failed_share(row: Row) -> str:
    """Say how many of a row's trainings have no result, as `failed 2/5`; nothing if none."""
    return f"failed {row.failed}/{row.failed + row.n}" if row.failed and row.n else ""


def told(effect: Effect) -> str:
    """Say the verdict, and how many of the level's trainings failed."""
    word, share = verdict(effect), failed_share(effect)
    return share if word == "failed" and share else ", ".join(filter(None, (word, share)))
