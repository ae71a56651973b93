"""What the coordinator itself costs per trial of 20 epochs, beside plain Optuna on SQLite.

    python benchmarks/overhead.py [--finished 1000] [--measured 50]

No network is trained: an executor that makes figures up drives the real coordinator, sampler,
pruner and writer. CPU seconds of this process, each way with a database of its own that already
holds finished trials.
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parent.parent)  # not this folder: here `study` is a script

import argparse
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Sequence
from typing import Any

import optuna

from study.plans.plan import Plan, load_plan
from study.plans.space import suggest
from study.run.coordinator import Coordinator, State
from study.run.executors import Watcher
from study.run.opening import open_study
from study.run.search import SearchWork
from study.run.weights import WeightFiles
from study.store import location, ownership
from study.store.durability import Durability
from study.store.writer import StudyWriter
from trainer.config import TrainConfig
from trainer.results import Cost, Epoch, Result

EPOCHS = 20


class MadeUp:
    """An executor whose trials take no time; it runs `most` of them."""

    slots = 1

    def __init__(self) -> None:
        self.most = 0

    def start(self) -> dict[str, Any]:
        """Start nothing."""
        return {}

    def measure(self, configs: Sequence[TrainConfig]) -> list[Cost]:
        """Cost nothing to speak of."""
        return [Cost(1.0, 1) for _ in configs]

    def run(self, watcher: Watcher) -> None:
        """Answer each job with epochs of slowly rising accuracy."""
        for _ in range(self.most):
            job = watcher.next_job()
            assert job is not None
            history: list[Epoch] = []
            for accuracy in curve():
                number = len(history) + 1
                history.append(Epoch(number, 1.0, 0.5, 1.0, accuracy, 0.1, 0.1))
                stopped = bool(watcher.on_epoch(job, {0: history[-1]}))
                watcher.on_tick()
                if stopped:
                    break
            watcher.on_results(job, [self._result(tuple(history), stopped=stopped)])

    def _result(self, history: tuple[Epoch, ...], *, stopped: bool) -> Result:
        return Result(
            outcome="stopped" if stopped else "finished",
            history=history,
            best_epoch=len(history),
            val_accuracy=history[-1].val_accuracy,
            val_loss=1.0,
            test_accuracy=None if stopped else 0.9,
            test_loss=None if stopped else 0.3,
            parameters=1000,
            seconds=1.0,
            images_per_second=1.0,
            device="none",
            precision="fp32",
            bank=1,
            latency_ms=None,
            state=None,
        )

    def close(self) -> None:
        """Stop nothing."""


class Silent:
    """A view that shows nothing."""

    def show(self, state: State, event: str | None) -> None:
        """Show nothing."""


def curve() -> list[float]:
    """Make up one trial's validation accuracies."""
    level = random.random()
    return [0.9 * level + 0.1 * number / EPOCHS for number in range(1, EPOCHS + 1)]


def ours(plan: Plan, folder: Path, counts: Sequence[int]) -> list[float]:
    """Run `counts` trials one after the other; return CPU seconds per trial of each part."""
    executor = MadeUp()
    seconds = []
    url = location.locate(str(folder / "ours.db"))
    with ownership.take(url, "benchmark") as database:
        durability = Durability(url, print)  # journal and backups, as every run has them
        writer = StudyWriter(database, "search", journal=durability.journal)
        open_study(writer, plan, {"sha256": "none"})
        work = SearchWork(plan, [])
        weights = WeightFiles(folder, "studies.db", writer.name)
        coordinator = Coordinator(
            work, writer, executor, bank_size=1, weights=weights, view=Silent(),
            back_up=lambda: durability.mind(writer),
        )  # fmt: skip
        with durability.guarding(writer):
            for count in counts:
                executor.most = count
                started = time.process_time()
                coordinator.run()
                seconds.append((time.process_time() - started) / count)
    return seconds


def plain(plan: Plan, folder: Path, counts: Sequence[int]) -> list[float]:
    """Do the same with Optuna's own storage, sampler and pruner."""
    assert plan.search is not None
    study = optuna.create_study(
        storage=f"sqlite:///{folder / 'plain.db'}",
        direction="maximize",
        sampler=optuna.samplers.TPESampler(
            seed=0, multivariate=True, group=True, constant_liar=True
        ),
        pruner=optuna.pruners.HyperbandPruner(max_resource=EPOCHS),
    )
    seconds = []
    for count in counts:
        started = time.process_time()
        for _ in range(count):
            trial = study.ask()
            suggest(trial, plan.search.space, plan.base_config)
            accuracies = curve()
            state = None
            for number, accuracy in enumerate(accuracies, 1):
                trial.report(accuracy, number)
                if trial.should_prune():
                    state = optuna.trial.TrialState.PRUNED
                    break
            study.tell(trial, None if state else accuracies[-1], state=state)
        seconds.append((time.process_time() - started) / count)
    return seconds


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--finished", type=int, default=1000)
    parser.add_argument("--measured", type=int, default=50)
    parser.add_argument("--plain-finished", type=int, default=100, help="plain Optuna is slow")
    args = parser.parse_args()
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    random.seed(0)
    plan = load_plan("search").override(trials=100_000, epochs=EPOCHS, seeds=1)
    ways = {
        "ours": (ours, args.finished),
        "plain Optuna on SQLite": (plain, args.plain_finished),
    }
    for name, (way, finished) in ways.items():
        with tempfile.TemporaryDirectory() as folder:
            _, *parts = way(plan, Path(folder), [finished, *[args.measured] * 3])
        print(
            f"{name}: {1000 * statistics.median(parts):.1f} ms of CPU per trial of {EPOCHS} epochs "
            f"after {finished} finished trials "
            f"(three parts: {', '.join(f'{1000 * part:.1f}' for part in parts)})",
            flush=True,
        )


if __name__ == "__main__":
    main()
