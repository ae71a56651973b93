"""A search: a sampler proposes, a pruner stops, replicate seeds confirm. A `Work`.

Sampler and pruner see an in-memory mirror of the study, rebuilt from the database at the start, so
that a resumed search knows all earlier trials. Every candidate is first trained on seed 0. Where
the plan wants k > 1 seeds, survivors are confirmed on more of them by successive halving: of n
candidates, the best n / 3 by mean get seed 1, of these n / 9 seed 2, and so on, never fewer than
three; the baseline always goes along. So "best" is a mean, not the luckiest run. With several
objectives, the Pareto front gets all seeds.
"""

import math
import statistics
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from study.plans.plan import Plan
from study.plans.space import Parameter, every_point, suggest, that_matter
from study.run import pruners
from study.run.confirmation import Candidate, next_by_wilcoxon, next_replicates
from study.run.proposals import PointEnd, PointKey, Proposal, Proposals, without_remarks
from study.run.work import Task, banks
from trainer.config import TrainConfig
from trainer.results import Cost, Epoch, Result

BASELINE = "baseline"
FEW = 5  # durations before their mean says more than the estimate
MEASURED = 12  # random points for the estimate


class SearchWork:
    """The trials of a search. A `Work`.

    Args:
        plan: its design is "search".
        trials: the study's trials so far.
    """

    def __init__(self, plan: Plan, trials: Sequence[FrozenTrial]) -> None:
        assert plan.search is not None
        self.plan, self.search = plan, plan.search
        self.base = plan.base_config
        self.proposals = Proposals(plan, len(trials))
        self.distributions = {
            parameter.name: self._stored_form(parameter) for parameter in self.search.space
        }
        self.pruner = pruners.make(self.search.pruner, plan.epochs)
        self.candidates: dict[int, Candidate] = {}
        self.numbers: dict[PointKey, int] = {}  # point -> its candidate
        self.baseline: int | None = None  # its candidate
        self.proposed: dict[Task, Proposal] = {}  # search trials, asked or running
        self.asked: list[Task] = []  # of them, those not started
        self.running: set[tuple[int, int]] = set()  # replicates: (candidate, seed)
        self.settled = self.replicated = self.failed = self.spent = 0  # trials, ..., epochs
        self.exhausted = False  # whether there is no new point to propose
        self.expected = 0.0  # seconds of a trial
        self.durations: deque[float] = deque(maxlen=50)
        self._replay(trials)

    def _replay(self, trials: Sequence[FrozenTrial]) -> None:
        """Rebuild the state from the database."""
        unfinished: list[Mapping[str, Any]] = []
        for trial in trials:
            attributes = trial.user_attrs
            if "candidate" not in attributes:
                continue  # another tool's
            self.spent += len(trial.intermediate_values)
            diverged = attributes.get("outcome") == "diverged"
            if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or diverged:
                self._remember(trial, attributes["candidate"], attributes["seed"])
            elif attributes["candidate"] == trial.number:
                unfinished.append(trial.params)
        # What was interrupted is proposed again as it was, and the listed points come first.
        space, listed = self.search.space, self.search.points
        if self.search.sampler == "grid":
            self.proposals.list_first(every_point(space, self.base, listed))
        else:
            first = [that_matter(point, space, self.base) for point in ({}, *listed)]
            self.proposals.list_first([*first, *unfinished])

    def _remember(self, trial: FrozenTrial, number: int, seed: int) -> None:
        is_first = number == trial.number
        # Older searches trained a point several times: it is one candidate.
        number = self.numbers.setdefault(self.proposals.key(trial.params), number)
        config = TrainConfig.from_dict(trial.user_attrs["config"])
        candidate = self.candidates.setdefault(number, Candidate(trial.params, config))
        complete = trial.state == TrialState.COMPLETE
        candidate.values.setdefault(seed, trial.values[0] if complete else None)
        if not is_first:
            self.replicated += 1
            return
        self.settled += 1
        self.failed += trial.state == TrialState.FAIL
        if trial.user_attrs["variant"] == BASELINE:
            self.baseline = number
        for step, value in sorted(trial.intermediate_values.items()):
            self.pruner.report(trial.number, step, value)
        self.proposals.remember(trial, number)

    def _stored_form(self, parameter: Parameter) -> BaseDistribution:
        """Return the distribution that the database holds every value of."""
        given = [point[parameter.name] for point in self.search.points if parameter.name in point]
        base_level = getattr(self.base, parameter.name)
        values = [value for value in (base_level, *given) if parameter.holds(value)]
        return parameter.distribution(stepped=all(parameter.nearest(v) == v for v in values))

    # What the coordinator asks.

    def kinds(self) -> Sequence[TrainConfig]:
        """Return a few random points of the space, to be measured."""
        with without_remarks():
            study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
            points = [suggest(study.ask(), self.search.space, self.base) for _ in range(MEASURED)]
        return [self.base.replace(**point) for point in points]

    def learn(self, costs: Sequence[Cost]) -> None:
        """Take their mean for a trial's cost: an upper bound where trials are pruned."""
        self.expected = statistics.fmean(cost.seconds for cost in costs)

    @property
    def planned(self) -> int:
        """Search trials, and the replicates that are known so far."""
        return self._search_trials + self.replicated + len(self._replicates_due())

    @property
    def done(self) -> int:
        """Settled trials."""
        return self.settled + self.replicated

    def next(self, size: int) -> Sequence[Task]:
        """Propose trials that fuse; when all are settled, replicates of the survivors."""
        while len(self.asked) < size and self._may_ask():
            self._ask()
        if self.asked:
            bank = max(banks(self.asked, size), key=len)
            self.asked = [task for task in self.asked if task not in bank]
            return bank
        due = [replicate for replicate in self._replicates_due() if replicate not in self.running]
        if not due:
            return ()
        bank = banks([self._replicate(*replicate) for replicate in due], size)[0]
        self.running.update((int(task.candidate or 0), task.seed) for task in bank)
        return bank

    @property
    def _search_trials(self) -> int:
        """How many trials the search has; once its epochs are spent, no more than there are."""
        budget = self.search.epoch_budget
        spent = budget is not None and self.spent >= budget
        over = spent or self.exhausted
        return self.settled + len(self.proposed) if over else self.search.trials

    def _may_ask(self) -> bool:
        return self.settled + len(self.proposed) < self._search_trials

    def _ask(self) -> None:
        proposal = self.proposals.ask()
        if proposal is None:
            self.exhausted = True
            return
        params = proposal.point
        task = Task("", 0, self.base.replace(**params), params, self._changes(params))
        self.proposed[task] = proposal
        self.asked.append(task)

    def _changes(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {name: level for name, level in params.items() if level != getattr(self.base, name)}

    def _replicate(self, number: int, seed: int) -> Task:
        candidate = self.candidates[number]
        variant = BASELINE if number == self.baseline else f"#{number}"
        config = candidate.config.replace(seed=seed)
        params = candidate.params
        return Task(variant, seed, config, params, self._changes(params), candidate=number)

    def _replicates_due(self) -> Collection[tuple[int, int]]:
        if self.plan.seeds == 1 or self.proposed or self._may_ask():
            return ()
        if len(self.search.objectives) > 1:  # nobody is best: the whole front is confirmed
            front, seeds = self.proposals.front(), range(1, self.plan.seeds)
            return [(n, s) for s in seeds for n in front if s not in self.candidates[n].values]
        if self.search.pruner == "wilcoxon":
            return next_by_wilcoxon(self.candidates, self.plan.seeds)
        return next_replicates(self.candidates, self.plan.seeds, self.baseline)

    def on_start(self, task: Task, number: int) -> None:
        """Name a new candidate after its trial."""
        if task.candidate is None or task in self.proposed:
            task.candidate = number
            if self.baseline is None and not task.changes:
                self.baseline = number
            task.variant = BASELINE if number == self.baseline else f"#{number}"

    def on_epoch(self, task: Task, epoch: Epoch) -> bool:
        """Mirror the epoch and ask the pruner. Replicates are never pruned."""
        self.spent += 1
        proposal = self.proposed.get(task)
        if proposal is None:
            return False
        self.proposals.report(proposal, epoch.epoch, epoch.val_accuracy)
        assert task.candidate is not None
        poor = self.pruner.report(task.candidate, epoch.epoch, epoch.val_accuracy)
        # The baseline is the comparison: it runs to its end. So does who is there already.
        return poor and task.candidate != self.baseline and epoch.epoch < self.plan.epochs

    def on_result(self, task: Task, result: Result) -> None:
        """Tell the sampler."""
        number = task.candidate
        assert number is not None
        complete = result.outcome in ("finished", "early-stopped")
        candidate = self.candidates.setdefault(number, Candidate(task.params, task.config))
        candidate.values[task.seed] = result.val_accuracy if complete else None
        self.durations.append(result.seconds)
        proposal = self.proposed.pop(task, None)
        if proposal is None:
            self.running.discard((number, task.seed))
            self.replicated += 1
            return
        self.settled += 1
        self.failed += result.outcome == "diverged"
        self.numbers.setdefault(self.proposals.key(task.params), number)
        self.proposals.end(proposal, self._end(number, result))

    def _end(self, number: int, result: Result) -> PointEnd:
        steps = {epoch.epoch: epoch.val_accuracy for epoch in result.history}
        steps = {step: value for step, value in steps.items() if math.isfinite(value)}
        if result.outcome in ("finished", "early-stopped"):
            values = [value for value in self.objectives(result) if value is not None]
            return PointEnd(number, TrialState.COMPLETE, tuple(values), steps)
        pruned = result.outcome == "stopped"
        return PointEnd(number, TrialState.PRUNED if pruned else TrialState.FAIL, (), steps)

    def give_up(self, task: Task) -> None:
        """Tell the sampler that nothing came of it; another trial takes its place."""
        assert task.candidate is not None
        self.failed += 1
        proposal = self.proposed.pop(task, None)
        if proposal is not None:
            self.proposals.give_up(proposal)
            self.settled += 1
        else:
            self.candidates[task.candidate].values[task.seed] = None
            self.running.discard((task.candidate, task.seed))

    def objectives(self, result: Result) -> Sequence[float | None]:
        """Return the values of the plan's objectives; None: there is none."""
        return [getattr(result, name) for name in self.search.objectives]

    def cost(self, task: Task | None) -> float:
        """Return the mean seconds of the trials so far, at first the measured estimate."""
        del task  # what a proposal will cost is not known before it has been trained
        enough = len(self.durations) >= FEW
        return statistics.fmean(self.durations) if enough else self.expected

    def seconds_waiting(self) -> float:
        """Return the seconds of the trials not started, replicates due included."""
        started = self.settled + len(self.proposed) - len(self.asked)  # settled, or running now
        due = sum(replicate not in self.running for replicate in self._replicates_due())
        return (max(self._search_trials - started, 0) + due) * self.cost(None)
