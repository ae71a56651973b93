"""What a search tries next: listed points first, then a sampler's proposals, no point twice.

The sampler works on an in-memory mirror of the study. Where it proposes a point that has been
trained already, it is told what came of that and asked again: nothing is learnt from training the
same network on the same seed twice. Where it insists, a random point that is new takes its place.
"""

import random
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import optuna
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from study.plans.plan import Plan
from study.plans.space import Search, every_point, suggest

MAX_REPEATS = 10  # proposals in a row that are not new, then one is drawn at random
MAX_DRAWS = 1000  # random points in a row that are not new, then they are listed

Params = Mapping[str, Any]  # the parameters that matter there
PointKey = frozenset[tuple[str, Any]]


class PointEnd(NamedTuple):
    """What came of a point on its first seed."""

    candidate: int
    state: TrialState  # COMPLETE, PRUNED or FAIL: diverged
    values: tuple[float, ...] = ()  # of the objectives, where it is complete
    steps: Mapping[int, float] = {}  # epoch -> validation accuracy


@dataclass(eq=False)
class Proposal:
    """A point to be trained, until it is told; `repeats` are the same point proposed meanwhile."""

    point: Params
    trial: Trial  # in the mirror
    repeats: list[Trial]


def directions(plan: Plan) -> list[StudyDirection]:
    """Return a direction per objective of a plan."""
    if plan.search is None:
        return [StudyDirection.MAXIMIZE]
    maximize, minimize = StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE
    return [maximize if name == "val_accuracy" else minimize for name in plan.search.objectives]


@contextmanager
def without_remarks() -> Iterator[None]:
    """Keep Optuna's remarks on its own features from those who have not chosen them."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class Proposals:
    """The points of a search, each proposed once.

    Args:
        plan: its design is "search".
        before: trials that there are: a resumed search must not draw its first points again.
    """

    def __init__(self, plan: Plan, before: int) -> None:
        assert plan.search is not None
        self.search, self.base = plan.search, plan.base_config
        self.space = {parameter.name: parameter for parameter in self.search.space}
        self.distributions = {
            name: parameter.distribution() for name, parameter in self.space.items()
        }
        self.defaults = {
            name: parameter.default(self.base) for name, parameter in self.space.items()
        }
        self.random = random.Random(f"{self.search.sampler_seed} {before}")
        self.listed: deque[Params] = deque()
        self.ends: dict[PointKey, PointEnd] = {}
        self.open: dict[PointKey, Proposal] = {}
        with without_remarks():
            self.mirror = optuna.create_study(
                directions=directions(plan), sampler=_sampler(self.search, before)
            )

    def key(self, point: Params) -> PointKey:
        """Return what tells two points apart."""
        return frozenset((name, self.space[name].exact(value)) for name, value in point.items())

    def list_first(self, points: Iterable[Params]) -> None:
        """Propose these points before all others, each once."""
        taken = {*self.ends, *map(self.key, self.listed)}
        for point in points:
            if self.key(point) not in taken:
                taken.add(self.key(point))
                self.listed.append(point)

    def remember(self, trial: FrozenTrial, candidate: int) -> None:
        """Take a settled trial of the database."""
        complete = trial.state == TrialState.COMPLETE
        values = tuple(trial.values) if complete else ()
        end = PointEnd(candidate, trial.state, values, trial.intermediate_values)
        self.ends.setdefault(self.key(trial.params), end)
        params = {name: self.space[name].nearest(value) for name, value in trial.params.items()}
        with without_remarks():
            self.mirror.add_trial(
                create_trial(
                    state=trial.state,
                    values=values or None,
                    params={**self.defaults, **params},
                    distributions=self.distributions,
                    intermediate_values=trial.intermediate_values,
                    user_attrs={"candidate": candidate},
                )
            )

    def ask(self) -> Proposal | None:
        """Return a point that has not been proposed before; None: there is none."""
        with without_remarks():
            while self.listed:
                point = self.listed.popleft()
                if self._is_new(point):
                    return self._open(point, self._enqueued(point))
            for _ in range(MAX_REPEATS):
                trial = self.mirror.ask()
                point = suggest(trial, self.search.space, self.base)
                if self._is_new(point):
                    return self._open(point, trial)
                self._repeat(point, trial)
            drawn = self._drawn()
            return None if drawn is None else self._open(drawn, self._enqueued(drawn))

    def _is_new(self, point: Params) -> bool:
        key = self.key(point)
        return key not in self.ends and key not in self.open

    def _open(self, point: Params, trial: Trial) -> Proposal:
        proposal = Proposal(point, trial, [])
        self.open[self.key(point)] = proposal
        return proposal

    def _enqueued(self, point: Params) -> Trial:
        """Have the mirror ask for this point, or for the step next to it."""
        near = {name: self.space[name].nearest(value) for name, value in point.items()}
        self.mirror.enqueue_trial(near)
        trial = self.mirror.ask()
        suggest(trial, self.search.space, self.base)
        return trial

    def _repeat(self, point: Params, trial: Trial) -> None:
        """Tell the sampler what it could know, or will, once the same point has ended."""
        end = self.ends.get(self.key(point))
        if end is None:
            self.open[self.key(point)].repeats.append(trial)
        else:
            self._tell(trial, end)

    def _drawn(self) -> Params | None:
        """Draw a new point at random; None: there is none."""
        seed = self.random.randrange(2**31)
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
        for _ in range(MAX_DRAWS):
            point = suggest(study.ask(), self.search.space, self.base)
            if self._is_new(point):
                return point
        if any(parameter.values() is None for parameter in self.search.space):
            return None
        return next(filter(self._is_new, every_point(self.search.space, self.base)), None)

    def report(self, proposal: Proposal, epoch: int, value: float) -> None:
        """Tell the sampler of an epoch: what is pruned later has shown this much."""
        if len(self.search.objectives) == 1:  # else Optuna takes no intermediate values
            proposal.trial.report(value, epoch)

    def end(self, proposal: Proposal, end: PointEnd) -> None:
        """Tell the sampler what came of a point; it is never proposed again."""
        self.ends[self.key(proposal.point)] = end
        self._close(proposal, lambda trial: self._tell(trial, end))

    def give_up(self, proposal: Proposal) -> None:
        """Tell the sampler that nothing came of a point; it may be proposed again."""
        self._close(proposal, lambda trial: self.mirror.tell(trial, state=TrialState.FAIL))

    def _close(self, proposal: Proposal, tell: Callable[[Trial], object]) -> None:
        del self.open[self.key(proposal.point)]
        with without_remarks():
            for trial in (proposal.trial, *proposal.repeats):
                tell(trial)

    def _tell(self, trial: Trial, end: PointEnd) -> None:
        trial.set_user_attr("candidate", end.candidate)
        if len(self.search.objectives) == 1:  # else Optuna takes no intermediate values
            for step, value in end.steps.items():  # those that it has already are left alone
                trial.report(value, step)
        if end.state == TrialState.COMPLETE:
            self.mirror.tell(trial, end.values)
        else:
            self.mirror.tell(trial, state=end.state)

    def front(self) -> list[int]:
        """Return the candidates on the Pareto front."""
        return sorted({trial.user_attrs["candidate"] for trial in self.mirror.best_trials})


def _sampler(search: Search, before: int) -> BaseSampler:
    seed = search.sampler_seed + before
    if search.sampler == "qmc":
        return optuna.samplers.QMCSampler(seed=seed, scramble=True)
    if search.sampler == "gp":
        return optuna.samplers.GPSampler(seed=seed)
    if search.sampler == "tpe":
        # Running trials count as poor ones, so that a batch of proposals spreads out.
        return optuna.samplers.TPESampler(
            seed=seed, multivariate=True, constant_liar=True, n_startup_trials=10
        )
    return optuna.samplers.RandomSampler(seed=seed)  # a grid's points are listed, not drawn
