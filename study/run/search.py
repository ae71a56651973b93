"""A search: a sampler proposes, a pruner stops, replicate seeds confirm. A `Work`.

Sampler and pruner see an in-memory mirror of the study, rebuilt from the database at the start, so
that a resumed search knows all earlier trials. Every candidate is first trained on seed 0. Where
the plan wants k > 1 seeds, survivors are confirmed on more of them by successive halving: of n
candidates, the best n / 3 by mean get seed 1, of these n / 9 seed 2, and so on, never fewer than
three; the baseline always goes along. So "best" is a mean, not the luckiest run. With several
objectives, the Pareto front gets all seeds.
"""

import itertools
import math
import statistics
import warnings
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from study.plans.plan import Plan
from study.plans.space import Search, suggest, that_matter
from study.run import pruners
from study.run.work import Task, banks
from trainer.config import TrainConfig
from trainer.results import Cost, Epoch, Result

optuna.logging.set_verbosity(optuna.logging.WARNING)  # the mirror is nobody's business

BASELINE = "baseline"
FEW = 5  # durations before their mean says more than the estimate
FINALISTS = 3
MEASURED = 12  # random points for the estimate
WILCOXON_P = 0.1  # a candidate is given up when it is worse than the best with this p or less


def directions(plan: Plan) -> list[StudyDirection]:
    """Return a direction per objective of a plan."""
    if plan.search is None:
        return [StudyDirection.MAXIMIZE]
    maximize, minimize = StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE
    return [maximize if name == "val_accuracy" else minimize for name in plan.search.objectives]


def sampler(search: Search, known: int) -> BaseSampler:
    """Make the search's sampler.

    Args:
        search: names it.
        known: trials that there are already: a resumed search must not draw its first points again.
    """
    seed = search.sampler_seed + known
    with warnings.catch_warnings():
        # Multivariate TPE, QMC and GP are marked so; our tests would see them change.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return _sampler(search.sampler, seed)


def _sampler(name: str, seed: int) -> BaseSampler:
    if name == "qmc":
        return optuna.samplers.QMCSampler(seed=seed, scramble=True)
    if name == "gp":
        return optuna.samplers.GPSampler(seed=seed)
    if name == "tpe":
        # Running trials count as poor ones, so that a batch of proposals spreads out.
        return optuna.samplers.TPESampler(
            seed=seed, multivariate=True, constant_liar=True, n_startup_trials=10
        )
    return optuna.samplers.RandomSampler(seed=seed)  # a grid's points are listed, not drawn


@dataclass
class Candidate:
    """One point of the space, and what its seeds gave. None: that seed gave no result."""

    params: Mapping[str, Any]
    config: TrainConfig
    values: dict[int, float | None] = field(default_factory=dict)  # seed -> validation accuracy

    def mean_before(self, seed: int) -> float:
        """Mean over the seeds before this one; -inf where one gave no result."""
        known = [self.values[own] for own in sorted(self.values) if own < seed]
        if not known or None in known:
            return -math.inf
        return statistics.fmean(value for value in known if value is not None)


def next_replicates(
    candidates: Mapping[int, Candidate], seeds: int, baseline: int | None
) -> list[tuple[int, int]]:
    """Return the (candidate, seed) that successive halving over seeds wants next; none: it is over.

    A round is one more seed; it starts when the round before is complete.
    """
    ranked = [n for n, own in candidates.items() if own.values.get(0) is not None]
    count = len(ranked)
    for seed in range(1, seeds):
        kept = max(FINALISTS, math.ceil(count / pruners.ETA**seed))
        best = sorted(ranked, key=lambda n: (-candidates[n].mean_before(seed), n))[:kept]
        ranked = sorted({*best, *(n for n in ranked if n == baseline)})
        missing = [(n, seed) for n in ranked if seed not in candidates[n].values]
        if missing:
            return missing
        ranked = [n for n in ranked if candidates[n].values[seed] is not None]
    return []


def next_by_wilcoxon(candidates: Mapping[int, Candidate], seeds: int) -> list[tuple[int, int]]:
    """Return the (candidate, seed) to run next where each gets all seeds unless it proves worse.

    Worse: a one-sided Wilcoxon signed-rank test against the best candidate, paired by seed, has
    p <= 0.1 (as Optuna's WilcoxonPruner does over instances).
    """
    means = {n: own.mean_before(seeds) for n, own in candidates.items()}
    alive = [n for n, mean in means.items() if mean > -math.inf]
    complete = [n for n in alive if len(candidates[n].values) == seeds]
    best = max(complete or alive, key=means.__getitem__, default=None)
    return [
        (n, len(candidates[n].values))
        for n in alive
        if len(candidates[n].values) < seeds
        and (best is None or n == best or not _is_worse(candidates[n], candidates[best]))
    ]


def _is_worse(candidate: Candidate, best: Candidate) -> bool:
    from scipy.stats import wilcoxon

    common = sorted(candidate.values.keys() & best.values.keys())
    differences = [(candidate.values[s] or 0.0) - (best.values[s] or 0.0) for s in common]
    if not any(differences):
        return False
    return bool(wilcoxon(differences, alternative="less").pvalue <= WILCOXON_P)


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
        self.distributions = {own.name: own.distribution() for own in self.search.space}
        self.mirror = optuna.create_study(
            directions=directions(plan), sampler=sampler(self.search, len(trials))
        )
        self.defaults = {own.name: own.default(self.base) for own in self.search.space}
        self.pruner = pruners.make(self.search.pruner, plan.epochs)
        self.candidates: dict[int, Candidate] = {}
        self.baseline: int | None = None  # its candidate
        self.handles: dict[Task, Trial] = {}  # search trials in the mirror, asked or running
        self.asked: list[Task] = []  # of them, those not started
        self.running: set[tuple[int, int]] = set()  # replicates: (candidate, seed)
        self.settled = self.replicated = self.failed = self.spent = 0  # trials, ..., epochs
        self.expected = 0.0  # seconds of a trial
        self.durations: deque[float] = deque(maxlen=50)
        self._replay(trials)

    def _replay(self, trials: Sequence[FrozenTrial]) -> None:
        """Rebuild the state from the database."""
        unfinished: list[dict[str, Any]] = []
        for trial in trials:
            own = trial.user_attrs
            self.spent += len(trial.intermediate_values)
            diverged = own.get("outcome") == "diverged"
            if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or diverged:
                self._remember(trial, own["candidate"], own["seed"])
            elif own["candidate"] == trial.number:
                unfinished.append(trial.params)
        known = {frozenset(own.params.items()) for own in self.candidates.values()}
        # What was interrupted is proposed again as it was, and the listed points come first.
        if self.search.sampler == "grid":
            points = list(self._grid())
        else:
            points = [
                that_matter(own, self.search.space, self.base) for own in ({}, *self.search.points)
            ] + unfinished
        for params in points:
            if frozenset(params.items()) not in known:
                known.add(frozenset(params.items()))
                self.mirror.enqueue_trial(params)

    def _remember(self, trial: FrozenTrial, number: int, seed: int) -> None:
        own = trial.user_attrs
        config = TrainConfig.from_dict(own["config"])
        candidate = self.candidates.setdefault(number, Candidate(trial.params, config))
        complete = trial.state == TrialState.COMPLETE
        candidate.values[seed] = trial.values[0] if complete else None
        if number != trial.number:
            self.replicated += 1
            return
        self.settled += 1
        self.failed += trial.state == TrialState.FAIL
        if own["variant"] == BASELINE:
            self.baseline = number
        for step, value in sorted(trial.intermediate_values.items()):
            self.pruner.report(number, step, value)
        self.mirror.add_trial(
            create_trial(
                state=trial.state,
                values=trial.values if complete else None,
                params={**self.defaults, **trial.params},
                distributions=self.distributions,
                intermediate_values=trial.intermediate_values,
                user_attrs={"candidate": number},
            )
        )

    def _grid(self) -> Iterator[dict[str, Any]]:
        yield that_matter({}, self.search.space, self.base)
        values = [[(own.name, v) for v in own.grid() or ()] for own in self.search.space]
        for combination in itertools.product(*values):
            yield that_matter(dict(combination), self.search.space, self.base)

    # What the coordinator asks.

    def kinds(self) -> Sequence[TrainConfig]:
        """Return a few random points of the space, to be measured."""
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
        due = [own for own in self._replicates_due() if own not in self.running]
        if not due:
            return ()
        bank = banks([self._replicate(*own) for own in due], size)[0]
        self.running.update((int(task.candidate or 0), task.seed) for task in bank)
        return bank

    @property
    def _search_trials(self) -> int:
        """How many trials the search has; once its epochs are spent, no more than there are."""
        budget = self.search.epoch_budget
        spent = budget is not None and self.spent >= budget
        return self.settled + len(self.handles) if spent else self.search.trials

    def _may_ask(self) -> bool:
        return self.settled + len(self.handles) < self._search_trials

    def _ask(self) -> None:
        handle = self.mirror.ask()
        params = suggest(handle, self.search.space, self.base)
        task = Task("", 0, self.base.replace(**params), params, self._changes(params))
        self.handles[task] = handle
        self.asked.append(task)

    def _changes(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {name: own for name, own in params.items() if own != getattr(self.base, name)}

    def _replicate(self, number: int, seed: int) -> Task:
        own = self.candidates[number]
        variant = BASELINE if number == self.baseline else f"#{number}"
        config = own.config.replace(seed=seed)
        return Task(variant, seed, config, own.params, self._changes(own.params), candidate=number)

    def _replicates_due(self) -> Collection[tuple[int, int]]:
        if self.plan.seeds == 1 or self.handles or self._may_ask():
            return ()
        if len(self.search.objectives) > 1:  # nobody is best: the whole front is confirmed
            front = sorted(trial.user_attrs["candidate"] for trial in self.mirror.best_trials)
            seeds = range(1, self.plan.seeds)
            return [(n, s) for s in seeds for n in front if s not in self.candidates[n].values]
        if self.search.pruner == "wilcoxon":
            return next_by_wilcoxon(self.candidates, self.plan.seeds)
        return next_replicates(self.candidates, self.plan.seeds, self.baseline)

    def on_start(self, task: Task, number: int) -> None:
        """Name a new candidate after its trial."""
        if task.candidate is None or task in self.handles:
            task.candidate = number
            self.handles[task].set_user_attr("candidate", number)
            if self.baseline is None and not task.changes:
                self.baseline = number
            task.variant = BASELINE if number == self.baseline else f"#{number}"

    def on_epoch(self, task: Task, epoch: Epoch) -> bool:
        """Mirror the epoch and ask the pruner. Replicates are never pruned."""
        self.spent += 1
        handle = self.handles.get(task)
        if handle is None:
            return False
        if len(self.search.objectives) == 1:
            handle.report(epoch.val_accuracy, epoch.epoch)
        assert task.candidate is not None
        poor = self.pruner.report(task.candidate, epoch.epoch, epoch.val_accuracy)
        # The baseline is the comparison: it runs to its end. So does who is there already.
        return poor and task.candidate != self.baseline and epoch.epoch < self.plan.epochs

    def on_result(self, task: Task, result: Result) -> None:
        """Tell the sampler."""
        number = task.candidate
        assert number is not None
        complete = result.outcome in ("finished", "early-stopped")
        own = self.candidates.setdefault(number, Candidate(task.params, task.config))
        own.values[task.seed] = result.val_accuracy if complete else None
        self.durations.append(result.seconds)
        handle = self.handles.pop(task, None)
        if handle is None:
            self.running.discard((number, task.seed))
            self.replicated += 1
            return
        self.settled += 1
        self.failed += result.outcome == "diverged"
        if complete:
            self.mirror.tell(handle, [own for own in self.objectives(result) if own is not None])
        else:
            pruned = result.outcome == "stopped"
            self.mirror.tell(handle, state=TrialState.PRUNED if pruned else TrialState.FAIL)

    def give_up(self, task: Task) -> None:
        """Tell the sampler that nothing came of it; another trial takes its place."""
        assert task.candidate is not None
        self.failed += 1
        handle = self.handles.pop(task, None)
        if handle is not None:
            self.mirror.tell(handle, state=TrialState.FAIL)
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
        known = len(self.durations) >= FEW
        return statistics.fmean(self.durations) if known else self.expected

    def seconds_waiting(self) -> float:
        """Return the seconds of the trials not started, replicates due included."""
        started = self.settled + len(self.handles) - len(self.asked)  # settled, or running now
        due = sum(own not in self.running for own in self._replicates_due())
        return (max(self._search_trials - started, 0) + due) * self.cost(None)
