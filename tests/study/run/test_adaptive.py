"""A study that stops when it is sure: who gets further seeds, whatever happens to the run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from analysis import trials as stored
from analysis.looks import seed_path
from analysis.progress import progress, render
from analysis.statistics.sequential import follow
from study.plans.plan import Plan
from study.run import session
from study.run.adaptive import AdaptiveWork, SeedValues, check_is_adaptive
from study.run.work import Task
from study.store import location
from tests.support.plans import INLINE, Witness, announce, tiny
from tests.support.results import result
from trainer.errors import UserError
from trainer.results import Cost, Epoch

LEVELS = ("pooling=avg", "kernel_size=1", "kernel_size=5")
FACTORS = {"pooling": ["max", "avg"], "kernel_size": [1, 3, 5]}


def plan(**changes: Any) -> Plan:
    return tiny(**{"seeds": "adaptive", "max_seeds": 6, "factors": FACTORS, **changes})


@dataclass
class Said:
    verdict: str
    delta: float | None = 0.01


@dataclass
class Round:
    seeds: int
    decided: list[Any] = field(default_factory=list)


@dataclass
class Forecast:
    trainings: int
    detectable: float | None = 0.005


@dataclass
class Followed:
    looks: list[Round]
    decisions: dict[Any, Said]
    wanted: list[tuple[Any, int]]
    round: int
    reason: str
    forecast: Forecast | None


def one_a_round(
    comparisons: Sequence[Any], values: SeedValues, *, max_seeds: int, negligible: float | None
) -> Followed:
    """Decide a level at each look, in plan order: at 3 seeds the first, at 4 the second, ..."""
    del negligible
    looks: list[Round] = []
    undecided = list(dict.fromkeys(comparisons))
    decisions: dict[Any, Said] = {}
    for seeds in range(3, max_seeds + 1):
        variants = list(dict.fromkeys(v for pair in undecided for v in (pair[1], pair[0])))
        cells = [(v, s) for s in range(seeds) for v in variants if s not in values.get(v, {})]
        if cells:
            return Followed(looks, decisions, cells, seeds, "", Forecast(len(cells)))
        decisions |= {pair: Said("undecided") for pair in undecided}
        decisions[undecided[0]] = Said("better")
        looks.append(Round(seeds, [undecided.pop(0)]))
        if not undecided:
            break
    return Followed(looks, decisions, [], 0, "every level is decided", None)


def train(work: AdaptiveWork, most: int = 1000, size: int = 1) -> list[tuple[str, int]]:
    """Train what the work asks for; return the cells in their order."""
    trained: list[tuple[str, int]] = []
    while len(trained) < most and (tasks := work.next(size)):
        for task in tasks:
            trained.append((task.variant, task.seed))
            finish(work, task)
    return trained


def finish(work: AdaptiveWork, task: Task, outcome: str = "finished") -> None:
    history = [Epoch(1, 1.0, 0.5, 1.0, 0.5, 0.1, 0.1)]
    work.on_result(task, result(history, outcome=outcome))


def test_all_get_three_seeds_then_only_the_undecided_and_the_baseline() -> None:
    work = AdaptiveWork(plan(), {}, 1, one_a_round)
    assert (work.planned, work.done) == (12, 0)
    trained = train(work)
    first = [(v, s) for s in range(3) for v in ("baseline", *LEVELS)]
    assert sorted(trained[:12]) == sorted(first)
    assert trained[12:15] == [("baseline", 3), ("kernel_size=1", 3), ("kernel_size=5", 3)]
    assert trained[15:] == [("baseline", 4), ("kernel_size=5", 4)]
    assert work.done == work.planned == 17


@pytest.mark.parametrize("killed_after", range(18))
def test_a_run_that_is_killed_goes_on_in_its_round(killed_after: int) -> None:
    work = AdaptiveWork(plan(), {}, 1, one_a_round)
    before = train(work, killed_after)
    kept: Mapping[Any, float | None] = dict.fromkeys(before, 0.5)
    after = train(AdaptiveWork(plan(), kept, 1, one_a_round))
    assert len({*before, *after}) == len(before) + len(after) == 17


def test_a_round_waits_for_all_of_the_round_before() -> None:
    work = AdaptiveWork(plan(), {}, 1, one_a_round)
    train(work, 11)
    (last,) = work.next(1)
    assert not work.next(1)  # another worker has nothing to do meanwhile
    finish(work, last)
    assert {task.seed for task in work.next(1)} == {3}


def test_rounds_are_trained_in_banks() -> None:
    work = AdaptiveWork(plan(), {}, 2, one_a_round)
    (bank, *_) = [work.next(2)]
    assert len(bank) == 2


def test_a_diverged_cell_is_a_value_and_one_that_was_given_up_ends_the_run() -> None:
    seen: list[SeedValues] = []

    def rule(comparisons: Sequence[Any], values: SeedValues, **options: Any) -> Followed:
        seen.append({variant: dict(own) for variant, own in values.items()})
        return one_a_round(comparisons, values, **options)

    work = AdaptiveWork(plan(), {("pooling=avg", 0): None}, 1, rule)
    assert (work.done, work.failed) == (1, 1)
    tasks = [work.next(1)[0] for _ in range(11)]
    finish(work, tasks[0], "diverged")
    for task in tasks[1:-1]:
        finish(work, task)
    work.give_up(tasks[-1])
    assert not work.next(1)
    assert work.failed == 3
    assert seen == [{"pooling=avg": {0: None}}]  # no look at a round that is not complete


def test_each_round_says_what_is_decided_and_what_the_next_costs() -> None:
    lines: list[str] = []
    work = AdaptiveWork(plan(), {}, 1, one_a_round, lines.append)
    work.learn([Cost(2.0, 100) for _ in work.kinds()])
    train(work)
    assert lines == [
        "after 3 seeds: 1 of the 3 levels decided (1 better), 2 open",
        "  pooling=avg: better (+1.00 points)",
        "next: 3 variants up to 4 seeds, 3 trainings, about 6.0 s of training; it finds "
        "differences from 0.50 points on",
        "after 4 seeds: 2 of the 3 levels decided (2 better), 1 open",
        "  kernel_size=1: better (+1.00 points)",
        "next: 2 variants up to 5 seeds, 2 trainings, about 4.0 s of training; it finds "
        "differences from 0.50 points on",
        "after 5 seeds: 3 of the 3 levels decided (3 better), 0 open",
        "  kernel_size=5: better (+1.00 points)",
        "no further seeds: every level is decided",
    ]
    again: list[str] = []
    AdaptiveWork(plan(), dict.fromkeys(cells_of(work), 0.5), 1, one_a_round, again.append)
    assert again == lines[-3:]


def cells_of(work: AdaptiveWork) -> list[tuple[str, int]]:
    return [(str(variant), seed) for variant, values in work.values.items() for seed in values]


def test_negligible_is_handed_on_as_a_fraction() -> None:
    given: list[Any] = []

    def rule(comparisons: Sequence[Any], values: SeedValues, **options: Any) -> Followed:
        given.append(options)
        return one_a_round(comparisons, values, **options)

    AdaptiveWork(plan(negligible=0.5), {}, 1, rule)
    AdaptiveWork(plan(), {}, 1, rule)
    assert given == [
        {"max_seeds": 6, "negligible": 0.005},
        {"max_seeds": 6, "negligible": None},
    ]


def test_a_study_without_levels_or_with_a_path_is_refused() -> None:
    with pytest.raises(UserError, match="tiny has no levels to be decided"):
        check_is_adaptive(plan(factors={}))
    with pytest.raises(UserError, match="--path: needs all seeds"):
        check_is_adaptive(plan(), path=True)
    check_is_adaptive(plan())
    check_is_adaptive(tiny(), path=True)


class Interrupting(Witness):
    """Somebody who presses Ctrl-C after so many results."""

    def __init__(self, results: int) -> None:
        super().__init__()
        self.left = results

    def show(self, state: Any, event: str | None) -> None:
        super().show(state, event)
        if event:
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt


def run(own: Plan, file: Path, view: Witness) -> Any:
    return session.run(
        own, location.locate(str(file)), INLINE, study_name=None, argv=["run"], view=view,
        announce=announce, rule=follow,
    )  # fmt: skip


def test_a_real_study_is_interrupted_goes_on_and_is_told_by_the_report(tmp_path: Path) -> None:
    file = tmp_path / "studies.db"
    small = plan(negligible=20, max_seeds=4)
    for results in (5, 9):
        with pytest.raises(KeyboardInterrupt):
            run(small, file, Interrupting(results))
    state = run(small, file, Witness())
    assert state.done == state.planned
    assert run(small, file, Witness()) == state  # nothing is trained again
    (study,) = stored.studies(engine := stored.connect(f"sqlite:///{file}"))
    rows = stored.trials(engine, study.id)
    finished = [trial for trial in rows if trial.state == "COMPLETE"]
    assert len({(trial.variant, trial.seed) for trial in finished}) == len(finished) == state.done
    assert (study.plan["seeds"], study.plan["max_seeds"], study.plan["negligible"]) == (3, 4, 20)
    path = seed_path(study.plan, rows)
    assert path is not None
    assert path.finished
    now = progress(study, rows)
    assert (now.planned, now.missing) == (state.done, 0)
    assert now.sureness is not None
    assert now.sureness.levels == 3
    assert path.reason in render(now)
    # The same plan with a fixed number of seeds goes on with what is there.
    more = run(tiny(seeds=4, factors=FACTORS), file, Witness())
    assert more.planned == 16
