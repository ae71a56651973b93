"""A search's course, driven by a made-up trainer: no network is trained here."""

import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from study.plans.plan import Plan
from study.run import proposals
from study.run.confirmation import Candidate, next_by_wilcoxon, next_replicates
from study.run.search import BASELINE, SearchWork
from study.run.work import Task
from tests.support.results import result
from trainer.config import TrainConfig
from trainer.results import Epoch

EPOCHS = 9


def plan(seeds: int = 1, **table: Any) -> Plan:
    space = {
        "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
        "dropout": {"low": 0.0, "high": 0.6},
        "width": [16, 32, 64],
    }
    values = {"trials": 20, "pruner": "asha", "space": space, **table}
    return Plan.from_dict(
        {"name": "s", "design": "search", "dataset": "digits", "seeds": seeds, "epochs": EPOCHS}
        | {"search": values}
    )


def quality(config: TrainConfig) -> float:
    """Make up a validation accuracy: best at dropout 0.3, with a little noise by seed."""
    noise = random.Random(f"{config.seed} {config.learning_rate}").gauss(0, 0.005)
    return 0.9 - abs(config.dropout - 0.3) + noise


class Course:
    """Runs a search's tasks one at a time and keeps what the database would hold."""

    def __init__(self, plan: Plan, trials: list[FrozenTrial] | None = None) -> None:
        self.plan = plan
        self.trials = list(trials or [])
        self.work = SearchWork(plan, self.trials)
        self.number = len(self.trials)
        self.wild = math.inf  # learning rates above it diverge

    def go(self, most: int = 10_000, *, interrupt_last: bool = False, size: int = 1) -> None:
        done = 0
        while done < most and (tasks := self.work.next(size)):
            for task in tasks:
                self.work.on_start(task, self.number)
                done += 1
                self.run(task, interrupted=interrupt_last and done == most)
                self.number += 1

    def run(self, task: Task, *, interrupted: bool) -> None:
        values: dict[int, float] = {}
        history: list[Epoch] = []
        outcome = "finished"
        for epoch in range(1, EPOCHS + 1):
            accuracy = quality(task.config) * (1 - 0.5 / (epoch + 1))
            history.append(Epoch(epoch, 1.0, 0.5, 1.0, accuracy, 0.1, 0.1))
            values[epoch] = accuracy
            if self.work.on_epoch(task, history[-1]):
                outcome = "stopped"
                break
            if task.config.learning_rate > self.wild:
                outcome = "diverged"
                break
        found = result(history, outcome=outcome, test_accuracy=None, parameters=task.config.width)
        states = {"finished": TrialState.COMPLETE, "stopped": TrialState.PRUNED}
        state = states.get(outcome, TrialState.FAIL)
        attributes = {
            "candidate": task.candidate,
            "seed": task.seed,
            "variant": task.variant,
            "changes": dict(task.changes),
            "config": task.config.to_dict(),
        }
        if interrupted:
            state = TrialState.FAIL
        else:
            self.work.on_result(task, found)
            attributes |= found.to_dict()
        trial = create_trial(
            state=state,
            values=[own or 0.0 for own in self.work.objectives(found)]
            if state == TrialState.COMPLETE
            else None,
            params=dict(task.params),
            distributions={name: self.work.distributions[name] for name in task.params},
            intermediate_values=values,
            user_attrs=attributes,
        )
        trial.number = self.number
        self.trials.append(trial)


def test_the_first_trial_is_the_baseline_and_it_is_never_pruned() -> None:
    course = Course(plan(points=[{"dropout": 0.1}]))
    course.go(3)
    first, second, third = course.trials
    assert first.user_attrs["variant"] == BASELINE
    assert first.user_attrs["changes"] == {}
    assert first.user_attrs["candidate"] == 0
    assert second.params["dropout"] == 0.1
    assert third.user_attrs["variant"] == "#2"
    assert course.trials[0].state == TrialState.COMPLETE


def test_a_search_runs_its_trials_and_prunes_the_poor_ones() -> None:
    course = Course(plan(trials=60))
    course.go()
    states = [trial.state for trial in course.trials]
    assert len(states) == 60
    assert states.count(TrialState.PRUNED) >= 20
    assert course.work.spent < 60 * EPOCHS / 2
    assert (course.work.done, course.work.planned, course.work.seconds_waiting()) == (60, 60, 0)


def test_tpe_finds_the_good_region_and_random_does_not_look_for_it() -> None:
    def late_distance(sampler: str) -> float:
        course = Course(plan(trials=60, sampler=sampler, pruner="none"))
        course.go()
        return float(sum(abs(trial.params["dropout"] - 0.3) for trial in course.trials[40:])) / 20

    assert late_distance("tpe") < 0.6 * late_distance("random")


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])
def test_a_resumed_search_has_the_same_total_and_no_point_twice(sampler: str) -> None:
    course = Course(plan(trials=30, sampler=sampler))
    course.go(12, interrupt_last=True)
    interrupted = course.trials[-1].params
    again = Course(plan(trials=30, sampler=sampler), course.trials)
    again.go()
    settled = [trial for trial in again.trials if trial.state != TrialState.FAIL]
    assert len(settled) == 30
    points = [tuple(sorted(trial.params.items())) for trial in settled]
    assert len(set(points)) == 30
    assert tuple(sorted(interrupted.items())) in points
    third = Course(plan(trials=30, sampler=sampler), again.trials)
    third.go()
    assert len(third.trials) == len(again.trials)


def test_a_resumed_sampler_sees_all_earlier_trials() -> None:
    course = Course(plan(trials=20))
    course.go()
    again = Course(plan(trials=30), course.trials)
    mirrored = again.work.proposals.mirror.trials
    assert [trial.params for trial in mirrored] == [trial.params for trial in course.trials]
    assert [trial.state for trial in mirrored] == [trial.state for trial in course.trials]
    assert again.work.spent == course.work.spent


def test_an_interrupted_baseline_is_still_the_first_to_be_run() -> None:
    course = Course(plan())
    course.go(1, interrupt_last=True)
    again = Course(plan(), course.trials)
    again.go(1)
    assert again.trials[1].user_attrs["variant"] == BASELINE
    assert again.work.baseline == 1


def test_a_grid_runs_every_point_once_also_across_an_interruption() -> None:
    grid = plan(sampler="grid", pruner="none", space={"width": [16, 32], "pooling": ["max", "avg"]})
    course = Course(grid)
    course.go(3, interrupt_last=True)
    again = Course(grid, course.trials)
    again.go()
    points = [
        (trial.params["width"], trial.params["pooling"])
        for trial in again.trials
        if trial.state == TrialState.COMPLETE
    ]
    assert sorted(points) == [(16, "avg"), (16, "max"), (32, "avg"), (32, "max")]
    assert points[0] == (32, "max")


def test_a_diverged_trial_is_settled_and_neither_best_nor_repeated() -> None:
    course = Course(plan(trials=20, seeds=2))
    course.wild = 1e-2
    course.go()
    diverged = [t.number for t in course.trials if t.user_attrs["outcome"] == "diverged"]
    assert diverged
    assert len([t for t in course.trials if t.user_attrs["seed"] == 0]) == 20
    assert course.work.failed == len(diverged)
    repeated = {t.user_attrs["candidate"] for t in course.trials if t.user_attrs["seed"] == 1}
    assert repeated.isdisjoint(diverged)
    failed = [t for t in course.work.proposals.mirror.trials if t.state == TrialState.FAIL]
    assert len(failed) == len(diverged)
    again = Course(plan(trials=20, seeds=2), course.trials)
    assert not again.work.next(1)


def test_an_epoch_budget_ends_the_proposals() -> None:
    course = Course(plan(trials=100, pruner="none", epoch_budget=5 * EPOCHS))
    course.go()
    assert len(course.trials) == 5
    assert course.work.done == course.work.planned == 5
    again = Course(course.plan, course.trials)
    assert again.work.done == again.work.planned
    assert again.work.seconds_waiting() == 0


def test_proposals_for_a_bank_fuse() -> None:
    course = Course(plan(trials=40))
    tasks = course.work.next(8)
    assert len(tasks) > 1
    assert len({task.config.fusion_key for task in tasks}) == 1


def test_survivors_are_confirmed_on_more_seeds_and_the_baseline_goes_along() -> None:
    course = Course(plan(trials=30, seeds=3))
    course.go()
    replicates = [t for t in course.trials if t.user_attrs["seed"] > 0]
    by_seed = {
        seed: [t.user_attrs["candidate"] for t in replicates if t.user_attrs["seed"] == seed]
        for seed in (1, 2)
    }
    assert 0 in by_seed[1]
    assert 0 in by_seed[2]
    assert set(by_seed[2]) <= set(by_seed[1])
    assert 3 <= len(by_seed[2]) <= len(by_seed[1])
    assert all(t.state == TrialState.COMPLETE for t in replicates)
    assert course.work.done == len(course.trials) == course.work.planned


def candidates(*values: Sequence[float | None]) -> dict[int, Candidate]:
    return {
        number: Candidate({}, TrainConfig(), dict(enumerate(own)))
        for number, own in enumerate(values)
    }


def test_successive_halving_over_seeds_by_hand() -> None:
    nine = candidates(*([0.1 * n] for n in range(9)))
    assert next_replicates(nine, 3, baseline=0) == [(0, 1), (6, 1), (7, 1), (8, 1)]
    for number, value in ((0, 0.0), (6, 0.9), (7, 0.9), (8, 0.1)):
        nine[number].values[1] = value
    assert next_replicates(nine, 3, baseline=0) == [(0, 2), (6, 2), (7, 2), (8, 2)]
    for number in (0, 6, 7, 8):
        nine[number].values[2] = 0.5
    assert next_replicates(nine, 3, baseline=0) == []


def test_a_candidate_that_failed_on_a_seed_gets_no_further_ones() -> None:
    own = candidates([0.9, None], [0.8, 0.8], [0.7, 0.7], [0.6, 0.6], [None])
    assert next_replicates(own, 3, baseline=None) == [(1, 2), (2, 2)]


def test_wilcoxon_gives_up_who_is_surely_worse_than_the_best() -> None:
    best = [0.9, 0.91, 0.92, 0.93, 0.94, 0.95]
    worse = [0.8, 0.82, 0.81, 0.83, 0.8]
    unclear = [0.9, 0.92, 0.91, 0.93, 0.95]
    due = next_by_wilcoxon(candidates(best, worse, unclear), 6)
    assert due == [(2, 5)]


def test_two_objectives_are_told_to_the_sampler() -> None:
    table = {"trials": 8, "pruner": "none", "objectives": ["val_accuracy", "parameters"]}
    course = Course(plan(**table, seeds=2))
    course.go()
    front = {trial.user_attrs["candidate"] for trial in course.work.proposals.mirror.best_trials}
    assert front == {t.user_attrs["candidate"] for t in course.trials if t.user_attrs["seed"] == 1}
    again = Course(plan(**table, seeds=2), course.trials)
    assert not again.work.next(1)
    assert [d.name for d in course.work.proposals.mirror.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert all(len(trial.values) == 2 for trial in course.work.proposals.mirror.trials)


def configs(course: Course) -> list[tuple[Any, ...]]:
    return [tuple(trial.user_attrs["config"].items()) for trial in course.trials]


SMALL = {"optimizer": ["adam", "sgd"], "pooling": ["max", "avg"]}


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "gp"])
@pytest.mark.parametrize("size", [1, 3])
def test_nothing_is_trained_twice_and_the_trials_are_all_points_of_a_small_space(
    sampler: str, size: int
) -> None:
    own = plan(seeds=3, trials=12, sampler=sampler, pruner="none", space=SMALL)
    course = Course(own)
    course.go(size=size)
    assert len(set(configs(course))) == len(configs(course))
    first = [trial for trial in course.trials if trial.user_attrs["seed"] == 0]
    assert len(first) == 4
    assert course.work.done == course.work.planned == len(course.trials)
    confirmed = {t.user_attrs["candidate"] for t in course.trials if t.user_attrs["seed"] == 2}
    assert len(confirmed) >= 3  # the winner, the runner-up, and another: three configs


def test_a_repeated_proposal_is_told_what_the_point_gave() -> None:
    space = {"width": [16, 32], "dropout": {"low": 0.1, "high": 0.7, "step": 0.1}}
    course = Course(plan(trials=12, pruner="none", sampler="random", space=space))
    course.go()
    mirrored = course.work.proposals.mirror.trials
    assert len(mirrored) > len(course.trials) == 12  # at random, some come again
    values = {tuple(sorted(trial.params.items())): trial.value for trial in course.trials}
    for trial in mirrored:
        near = {n: course.work.proposals.space[n].nearest(v) for n, v in trial.params.items()}
        assert trial.value == values[tuple(sorted(near.items()))]


def test_a_point_that_is_proposed_while_it_runs_is_told_when_it_ends() -> None:
    space = {"pooling": ["max", "avg"], "width": [16, 32]}
    own = plan(trials=4, pruner="none", sampler="random", space=space, sampler_seed=2)
    work = SearchWork(own, [])
    tasks = list(work.next(4))
    while len(tasks) < 4:
        tasks += work.next(4)
    repeats = sum(len(proposal.repeats) for proposal in work.proposals.open.values())
    assert repeats > 0
    history = [Epoch(1, 1.0, 0.5, 1.0, 0.5, 0.1, 0.1)]
    for number, task in enumerate(tasks):
        work.on_start(task, number)
        work.on_result(task, result(history, outcome="finished"))
    assert all(trial.state == TrialState.COMPLETE for trial in work.proposals.mirror.trials)
    assert len(work.proposals.mirror.trials) == 4 + repeats


def test_a_sampler_that_insists_gets_new_points_at_random(monkeypatch: pytest.MonkeyPatch) -> None:
    work = SearchWork(plan(trials=6, pruner="none"), [])
    insisted = {"learning_rate": 0.01, "dropout": 0.2, "width": 32}
    by_space = vars(proposals)["suggest"]

    def suggest(trial: Any, *space: Any) -> Any:
        point = by_space(trial, *space)
        return insisted if trial.study is work.proposals.mirror else point

    monkeypatch.setattr(proposals, "suggest", suggest)
    proposed = [work.proposals.ask() for _ in range(6)]
    assert len({work.proposals.key(own.point) for own in proposed if own is not None}) == 6


def test_a_baseline_between_two_steps_pushes_no_point_out_and_goes_on() -> None:
    space = {"dropout": {"low": 0.0, "high": 0.75, "step": 0.25}}
    grid = plan(sampler="grid", pruner="none", trials=50, space=space)
    assert grid.search is not None
    assert grid.search.trials == 5
    course = Course(grid)
    course.go(2)
    again = Course(grid, course.trials)
    again.go()
    assert [t.params["dropout"] for t in again.trials] == [0.2, 0.0, 0.25, 0.5, 0.75]
    tpe = plan(sampler="tpe", pruner="none", trials=50, space=space)
    other = Course(tpe, again.trials)
    other.go()
    assert len(other.trials) == 5


def test_a_step_that_was_computed_in_binary_by_an_older_search_is_the_same_point() -> None:
    space = {"dropout": {"low": 0.1, "high": 0.7, "step": 0.1}}
    grid = plan(sampler="grid", pruner="none", space=space)
    course = Course(grid)
    course.go(3)
    last = course.trials[2]
    last.params["dropout"] = last.params["dropout"] + 4e-17
    again = Course(grid, course.trials)
    again.go()
    assert len(again.trials) == 7


def test_repeated_points_of_an_older_search_are_one_candidate() -> None:
    own = plan(seeds=3, trials=4, pruner="none", space=SMALL)
    course = Course(own)
    course.go(4)
    for copy in course.trials[:4]:
        trial = create_trial(
            state=copy.state,
            values=copy.values,
            params=copy.params,
            distributions=copy.distributions,
            user_attrs={**copy.user_attrs, "candidate": len(course.trials)},
        )
        trial.number = len(course.trials)
        course.trials.append(trial)
    again = Course(own, course.trials)
    assert len(again.work.candidates) == 4
    again.go()
    assert len(set(configs(again)[4:])) == len(configs(again)[4:])


def test_a_trial_of_another_tool_is_left_alone() -> None:
    trial = create_trial(state=TrialState.COMPLETE, values=[0.5])
    course = Course(plan(trials=3), [trial])
    course.go()
    assert len(course.trials) == 4


def test_the_mirror_is_in_memory_only() -> None:
    course = Course(plan())
    assert isinstance(course.work.proposals.mirror._storage, InMemoryStorage)
    assert course.work.proposals.mirror.direction == StudyDirection.MAXIMIZE
