"""Which trials are not worth going on with: pure rules over the values seen so far.

Optuna's own pruners read every trial of the study at every report, 3-10 ms each; these keep what
they need in memory and answer in microseconds. Higher values are better, steps count from 1, and
every rule compares a trial only with what others reported at the same step.
"""

import bisect
import math
import statistics
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Protocol

ETA = 3  # of three, one goes on


class Pruner(Protocol):
    """Decides at every epoch whether a trial stops."""

    def report(self, trial: int, step: int, value: float) -> bool:
        """Take a trial's value at a step; return whether it stops there."""


class NoPruner:
    """Every trial runs to its end."""

    def report(self, trial: int, step: int, value: float) -> bool:
        """Go on."""
        del trial, step, value
        return False


class MedianPruner:
    """Stop a trial whose best value so far is below the median of the others' at this step.

    Golovin et al., "Google Vizier" (KDD 2017), as in Optuna's MedianPruner: the first trials and
    each trial's first steps are spared.
    """

    def __init__(self, startup_trials: int = 5, warmup_steps: int = 1) -> None:
        self.startup_trials, self.warmup_steps = startup_trials, warmup_steps
        self.values: dict[int, dict[int, float]] = defaultdict(dict)  # step -> trial -> value
        self.best: dict[int, float] = {}

    def report(self, trial: int, step: int, value: float) -> bool:
        """Compare the trial's best value with the others' values at this step."""
        self.best[trial] = max(value, self.best.get(trial, -math.inf))
        others = [other for number, other in self.values[step].items() if number != trial]
        self.values[step][trial] = value
        if step <= self.warmup_steps or len(others) < self.startup_trials:
            return False
        return self.best[trial] < statistics.median(others)


class AshaPruner:
    """Asynchronous successive halving: at each rung only the best third goes on.

    Li et al., "A System for Massively Parallel Hyperparameter Tuning" (MLSys 2020), the stopping
    variant: a trial is judged when it reaches a rung, by the values that were there before it. The
    rungs are at `first * 3**k` steps. As with their promotions, no more than a third of those that
    reached a rung go on: a sampler that learns would otherwise send nearly all later trials
    through, each better than the early ones. A new best always goes on.
    """

    def __init__(self, first: int, steps: int) -> None:
        self.rungs: dict[int, list[float]] = {}  # step -> values, ascending
        self.passed: Counter[int] = Counter()  # step -> how many went on
        while first < steps:
            self.rungs[first] = []
            first *= ETA

    def report(self, trial: int, step: int, value: float) -> bool:
        """Judge the trial where it stands on a rung."""
        values = self.rungs.get(step)
        if values is None:
            return False
        as_good = len(values) - bisect.bisect_left(values, value)  # before it: they win a tie
        bisect.insort(values, value)
        kept = len(values) // ETA
        goes_on = (
            len(values) < ETA  # nobody has been beaten by enough others yet
            or as_good == 0
            or (as_good < kept and self.passed[step] < kept)
        )
        self.passed[step] += goes_on
        return not goes_on


class HyperbandPruner:
    """Several successive halvings, from eager to patient, so that slow starters have a chance.

    Li et al., "Hyperband" (JMLR 2018). Bracket b starts at `first * 3**b` steps; as in the paper,
    each bracket gets about the same budget, so eager ones get more trials. A trial's bracket
    depends on its number only: a resumed study deals the same brackets.
    """

    def __init__(self, steps: int, first: int = 1) -> None:
        count = 1
        while first * ETA ** (count + 1) <= steps:
            count += 1
        self.brackets = [AshaPruner(first * ETA**b, steps) for b in range(count)]
        # s = count - 1 - b halvings are left in bracket b: it takes 3**s / (s + 1) of the trials.
        shares = [ETA ** (count - 1 - b) / (count - b) for b in range(count)]
        self.limits = [sum(shares[: b + 1]) / sum(shares) for b in range(count)]

    def bracket(self, trial: int) -> int:
        """Return the trial's bracket."""
        place = zlib.crc32(trial.to_bytes(8, "little")) / 2**32
        return bisect.bisect(self.limits[:-1], place)

    def report(self, trial: int, step: int, value: float) -> bool:
        """Judge the trial in its bracket."""
        return self.brackets[self.bracket(trial)].report(trial, step, value)


def make(name: str, epochs: int) -> Pruner:
    """Return the pruner of a name for trials of so many epochs."""
    rules: Mapping[str, Callable[[], Pruner]] = {
        "hyperband": lambda: HyperbandPruner(epochs),
        "asha": lambda: AshaPruner(1, epochs),
        "median": MedianPruner,
        "wilcoxon": NoPruner,  # it judges candidates by their seeds, not trials by their epochs
        "none": NoPruner,
    }
    return rules[name]()
