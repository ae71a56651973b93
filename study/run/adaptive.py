"""A study that stops when it is sure: further seeds for the levels that are still undecided.

Every variant gets a few seeds. Then, round by round, only undecided levels and what they are
compared with get more, until each is decided or the most seeds are reached. Which they are is a
statistical rule's to say (Jennison and Turnbull, "Group Sequential Methods", 2000), and that is
given: this room trains, and decides nothing. All of it follows from the values in the database, so
a run that was killed goes on in the round that it was in.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Protocol

from fmnist_common.text import duration
from study.plans.plan import BASELINE, Cell, Plan
from study.run.work import CellKey, CellWork, Task
from trainer.errors import UserError
from trainer.results import Cost, Result

Comparison = tuple[Hashable, Hashable]  # labels: a variant, and the one that it is compared with
SeedValues = Mapping[Hashable, Mapping[int, float | None]]
"""Variant -> seed -> validation accuracy; None: it will never have one."""


class SeedDecision(Protocol):
    """What is said of a comparison."""

    @property
    def verdict(self) -> str:
        """Return better, worse, negligible, undecided or failed."""

    @property
    def delta(self) -> float | None:
        """Return the mean difference, a fraction."""


class SeedLook(Protocol):
    """A round that is complete."""

    @property
    def seeds(self) -> int:
        """Return the seeds of those that were in it."""

    @property
    def decided(self) -> Sequence[Comparison]:
        """Return the comparisons that it settled."""


class SeedForecast(Protocol):
    """What the present round costs and can find."""

    @property
    def trainings(self) -> int:
        """Return how many trainings of it are still to be done."""

    @property
    def detectable(self) -> float | None:
        """Return the smallest true difference that it finds with 80 % power, a fraction."""


class SeedPath(Protocol):
    """What the values so far decide, and what they ask for."""

    @property
    def looks(self) -> Sequence[SeedLook]:
        """Return the rounds that are complete."""

    @property
    def decisions(self) -> Mapping[Comparison, SeedDecision]:
        """Return the latest decision of each comparison."""

    @property
    def wanted(self) -> Sequence[tuple[Hashable, int]]:
        """Return the cells (variant, seed) that the present round lacks; none: it is over."""

    @property
    def round(self) -> int:
        """Return the seeds that the present round's variants will have."""

    @property
    def reason(self) -> str:
        """Return why it is over."""

    @property
    def forecast(self) -> SeedForecast | None:
        """Return what the present round costs and can find."""


class SeedRule(Protocol):
    """Decides who is decided. Pure: the same values give the same path, in whatever order."""

    def __call__(
        self,
        comparisons: Sequence[Comparison],
        values: SeedValues,
        *,
        max_seeds: int,
        negligible: float | None,
    ) -> SeedPath:
        """Follow the study from its first look to where its values end.

        Args:
            comparisons: the rows of the table, in plan order.
            values: what there is.
            max_seeds: that a variant gets at most.
            negligible: a difference that would not matter, a fraction.
        """


def check_is_adaptive(plan: Plan, *, path: bool = False) -> None:
    """Check that a plan that stops when it is sure has levels to be sure of, and no path.

    Raises:
        UserError: it has none.
    """
    if plan.max_seeds is None:
        return
    if len(plan.variants) < 2:
        raise UserError(f"seeds = 'adaptive': {plan.name} has no levels to be decided")
    if path:
        raise UserError("--path: needs all seeds of every level; it does not go with --until-sure")


class AdaptiveWork(CellWork):
    """The cells of the round that an ablation is in, then those of the next. A `Work`.

    A round's verdicts need all of it: where a cell was given up, the run ends with the round.

    Args:
        plan: the ablation; its `max_seeds` is set.
        cells: those that are settled, with their accuracy; None: it diverged.
        bank_size: members per bank at most.
        rule: which levels are decided.
        tell: called with a line for each thing to know of a round that is complete.
    """

    def __init__(
        self,
        plan: Plan,
        cells: Mapping[CellKey, float | None],
        bank_size: int,
        rule: SeedRule,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        super().__init__(plan, bank_size)
        self.rule, self.tell = rule, tell
        self.variants = {variant.label: variant for variant in plan.variants}
        self.comparisons: list[Comparison] = [
            (row.variant.label, row.against.label)
            for row in plan.rows
            if row.variant != row.against
        ]
        self.values: dict[Hashable, dict[int, float | None]] = defaultdict(dict)
        for (variant, seed), accuracy in cells.items():
            if variant in self.variants and seed is not None:
                self.values[variant][seed] = accuracy
                self.done += 1
                self.failed += accuracy is None
        self.open = 0  # tasks queued or running
        self.path = self._extend()
        if not self.path.wanted:
            self._tell()

    def learn(self, costs: Sequence[Cost]) -> None:
        """Take the measured costs of the kinds; say what was decided before."""
        super().learn(costs)
        if self.path.looks:
            self._tell()

    def on_result(self, task: Task, result: Result) -> None:
        """Take the result; where it was a round's last, queue the next round."""
        super().on_result(task, result)
        diverged = result.outcome == "diverged"
        self.values[task.variant][task.seed] = None if diverged else result.val_accuracy
        self.open -= 1
        if not self.open:
            self.path = self._extend()
            self._tell()

    def _extend(self) -> SeedPath:
        """Follow the study to the round that it is in, and queue what that lacks."""
        margin = self.plan.negligible
        path = self.rule(
            self.comparisons,
            self.values,
            max_seeds=self.plan.max_seeds or self.plan.seeds,
            negligible=None if margin is None else margin / 100,
        )
        cells = [Cell(self.variants[str(variant)], seed) for variant, seed in path.wanted]
        self.open = len(self.add(cells))
        self.planned = self.done + self.open
        return path

    def _tell(self) -> None:
        for line in told(self.path, sum(self.cost(task) for bank in self.queue for task in bank)):
            self.tell(line)


def told(path: SeedPath, seconds: float) -> Iterator[str]:
    """Say what is decided, and what the present round costs and could find.

    Args:
        path: the study's.
        seconds: of training that the round takes; 0: not known.
    """
    if path.looks:
        verdicts = Counter(decision.verdict for decision in path.decisions.values())
        still = verdicts.pop("undecided", 0)
        words = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items())
        yield (
            f"after {path.looks[-1].seeds} seeds: {sum(verdicts.values())} of the "
            f"{len(path.decisions)} levels decided{f' ({words})' if words else ''}, {still} open"
        )
        for comparison in path.looks[-1].decided:
            yield f"  {_decided(comparison, path.decisions[comparison])}"
    if path.wanted and path.forecast:
        variants = len({variant for variant, _ in path.wanted})
        cost = f", about {duration(seconds)} of training" if seconds else ""
        smallest = path.forecast.detectable
        power = f"; it finds differences from {100 * smallest:.2f} points on" if smallest else ""
        yield (
            f"next: {variants} variants up to {path.round} seeds, "
            f"{path.forecast.trainings} trainings{cost}{power}"
        )
    elif not path.wanted:
        yield f"no further seeds: {path.reason}"


def _decided(comparison: Comparison, decision: SeedDecision) -> str:
    variant, reference = comparison
    against = "" if reference == BASELINE.label else f" against {reference}"
    points = "" if decision.delta is None else f" ({100 * decision.delta:+.2f} points)"
    return f"{variant}{against}: {decision.verdict}{points}"
