"""How many workers one owner keeps busy: a simulated cluster on the real coordinator and database.

    python benchmarks/scale.py [--workers 1 16 128 1024] [--trials 100000] [--bank 16] [--epochs 20]

Workers train nothing: each of their epochs takes a second of virtual time, and then they wait for
the owner's answer. What the owner does is real, the coordinator, its writer, journal, SQLite and
backups; each of its answers takes as long in virtual time as it took on this machine's clock (or
with `--clock cpu` of this process's CPU, which other processes disturb less, and which leaves out
what it waits for the disk). It answers one at a time, in the order of `drive`, which runs here too.

Utilisation is the share of their time in which workers train: over the whole run, and steady, from
the moment at which all have begun to the one at which the first finds nothing left to do.
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parent.parent)  # not this folder: here `study` is a script

import argparse
import gc
import heapq
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import SimpleNamespace
from typing import Any

from study.plans.plan import Plan
from study.run.coordinator import Coordinator, State
from study.run.executors import Event, Failure, Job, Watcher, drive
from study.run.opening import open_study
from study.run.weights import WeightFiles
from study.run.work import DesignedWork
from study.store import location, ownership, writer
from study.store.durability import Durability
from study.store.writer import StudyWriter
from trainer.config import TrainConfig
from trainer.results import Cost, Epoch, Result

EPOCH_SECONDS = 1.0  # of virtual time
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
LEVELS = 10  # of each factor of the simulated plan


@dataclass
class Cluster:
    """Simulated workers and the owner's virtual time. An `Executor`, its own `Crew` and `Watcher`.

    Attributes:
        slots: workers.
        clock: what the owner's answers are timed by.
        now: virtual seconds.
        busy: of them, those in which the owner answered.
        delays: from each report to its decision, virtual seconds.
        trained: when each epoch of each worker ended.
        all_begun, first_idle: virtual times; see the module's words on steady utilisation.
    """

    slots: int
    clock: Callable[[], float]
    now: float = 0.0
    busy: float = 0.0
    delays: list[float] = field(default_factory=list)
    trained: list[float] = field(default_factory=list)
    all_begun: float | None = None
    first_idle: float | None = None
    results: int = 0

    def __post_init__(self) -> None:
        self.idle = self.slots
        self.order = itertools.count()  # of what comes at one moment
        self.coming: list[tuple[float, int, Job]] = []  # when epochs end
        self.epochs: dict[int, int] = {}  # of each job in training, by its identity
        self.trained_at: dict[int, float] = {}  # the end of its last epoch

    def start(self) -> dict[str, Any]:
        """Start nothing."""
        return {}

    def measure(self, configs: Sequence[TrainConfig]) -> list[Cost]:
        """Cost nothing to speak of."""
        return [Cost(EPOCH_SECONDS, 1) for _ in configs]

    def close(self) -> None:
        """Stop nothing."""

    def run(self, watcher: Watcher) -> None:
        """Train the watcher's jobs until there are none."""
        self.watcher = watcher
        drive(self, self)

    # As the owner: the watcher's answers, each of which takes time.

    def _ask(self, question: Callable[..., Any], *about: Any) -> Any:
        began = self.clock()
        answer = question(*about)
        took = self.clock() - began
        self.now += took
        self.busy += took
        return answer

    def next_job(self) -> Job | None:
        """Ask for a job."""
        job: Job | None = self._ask(self.watcher.next_job)
        if job is None and self.first_idle is None:
            self.first_idle = self.now
        return job

    def on_epoch(self, job: Job, epochs: Mapping[int, Epoch]) -> Collection[int]:
        """Report an epoch."""
        stopped: Collection[int] = self._ask(self.watcher.on_epoch, job, epochs)
        self.delays.append(self.now - self.trained_at[id(job)])
        return stopped

    def on_results(self, job: Job, results: Sequence[Result]) -> None:
        """Report a job's results."""
        self._ask(self.watcher.on_results, job, results)
        self.results += len(results)

    def on_failure(self, job: Job, failure: Failure) -> None:
        """Nothing fails."""

    def on_tick(self) -> None:
        """Let the owner do what is due."""
        self._ask(self.watcher.on_tick)

    # As the workers: time passes while they train.

    @property
    def settled(self) -> bool:
        """Whether nobody trains."""
        return self.idle == self.slots

    def give(self, job: Job) -> None:
        """Begin a job's first epoch."""
        self.idle -= 1
        if not self.idle and self.all_begun is None:
            self.all_begun = self.now
        self.epochs[id(job)] = 0
        self._train(job)

    def _train(self, job: Job) -> None:
        heapq.heappush(self.coming, (self.now + EPOCH_SECONDS, next(self.order), job))

    def answer(self, job: Job, stopped: Collection[int]) -> None:
        """Begin the next epoch; after the last one, what is left is to tell the results."""
        del stopped
        if self.epochs[id(job)] < job.configs[0].epochs:
            self._train(job)
        else:
            heapq.heappush(self.coming, (self.now, next(self.order), job))

    def events(self, seconds: float) -> Iterator[Event]:
        """Tell what has come by now; where nothing has, let time pass until something does."""
        if self.coming:
            self.now = max(self.now, min(self.coming[0][0], self.now + seconds))
        arrived = []
        while self.coming and self.coming[0][0] <= self.now:
            arrived.append(heapq.heappop(self.coming))
        for ended, _, job in arrived:
            number = self.epochs[id(job)] + 1
            if number > job.configs[0].epochs:
                self.idle += 1
                del self.epochs[id(job)]
                yield job, "results", [result_of(number - 1, len(job.configs)) for _ in job.configs]
            else:
                self.epochs[id(job)] = number
                self.trained.append(ended)
                self.trained_at[id(job)] = ended
                yield job, "epoch", dict.fromkeys(range(len(job.configs)), epoch_of(number))

    def utilisation(self, began: float, ended: float) -> float:
        """Return the share of their time that workers trained, between two virtual times."""
        epochs = sum(began < end <= ended for end in self.trained)
        return epochs * EPOCH_SECONDS / (self.slots * (ended - began)) if ended > began else 0.0


def epoch_of(number: int) -> Epoch:
    """Make an epoch's figures up; the accuracy rises."""
    return Epoch(number, 1.0, 0.5, 1.0, 1 - 0.5 / number, 0.1, EPOCH_SECONDS)


def result_of(epochs: int, bank: int) -> Result:
    """Make a training's figures up."""
    history = tuple(map(epoch_of, range(1, epochs + 1)))
    return Result(
        outcome="finished",
        history=history,
        best_epoch=epochs,
        val_accuracy=history[-1].val_accuracy,
        val_loss=1.0,
        test_accuracy=0.9,
        test_loss=0.3,
        parameters=1000,
        seconds=EPOCH_SECONDS * epochs,
        images_per_second=1.0,
        device="none",
        precision="fp32",
        bank=bank,
        latency_ms=None,
        state=None,
    )


class Silent:
    """A view that shows nothing."""

    def show(self, state: State, event: str | None) -> None:
        """Show nothing."""


def plan_of(trials: int, epochs: int) -> Plan:
    """Return a factorial of so many trials whose members all fit into one bank."""
    values = [round(0.001 * level, 4) for level in range(1, LEVELS + 1)]
    factors = {"learning_rate": values, "weight_decay": values}
    base = {"learning_rate": values[0], "weight_decay": values[0], "precision": "fp32"}
    seeds = -(-trials // LEVELS ** len(factors))
    return Plan.from_dict(
        {
            "name": "scale", "design": "factorial", "dataset": "digits", "seeds": seeds,
            "epochs": epochs, "baseline": base, "factors": factors,
        }
    )  # fmt: skip


@dataclass(frozen=True)
class Figures:
    """What one run came to; seconds of virtual time, of the owner's clock for `owner_*`."""

    workers: int
    bank: int
    epochs: int
    trials: int
    utilisation: float
    steady: float
    owner_busy: float  # share of the time
    trials_per_owner_second: float
    median_ms: float  # from report to decision
    p95_ms: float
    memory_mb: float
    database_mb: float


def measure(workers: int, bank: int, epochs: int, trials: int, clock: str) -> Figures:
    """Run one simulated study in a folder of its own."""
    plan = plan_of(trials, epochs)
    cluster = Cluster(workers, CLOCKS[clock])
    vars(writer)["time"] = SimpleNamespace(monotonic=lambda: cluster.now)  # when epochs are due
    before = resident("VmRSS")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        url = location.locate(str(folder / "studies.db"))
        with ownership.take(url, "benchmark") as database:
            durability = Durability(url, print)
            study = StudyWriter(database, plan.name, journal=durability.journal)
            open_study(study, plan, {"name": "digits", "sha256": ""})
            work = DesignedWork(plan, [], bank)
            work.learn([Cost(EPOCH_SECONDS * epochs, 1) for _ in work.kinds()])
            with durability.guarding(study):
                Coordinator(
                    work, study, cluster, bank_size=bank,
                    weights=WeightFiles(folder, "studies.db", plan.name), view=Silent(),
                    back_up=lambda: durability.mind(study),
                ).run()  # fmt: skip
            size = (folder / "studies.db").stat().st_size
    delays = sorted(cluster.delays)
    end = max(cluster.trained)
    idle = end if cluster.first_idle is None else cluster.first_idle
    return Figures(
        workers=workers,
        bank=bank,
        epochs=epochs,
        trials=cluster.results,
        utilisation=cluster.utilisation(0.0, end),
        steady=cluster.utilisation(cluster.all_begun or 0.0, idle),
        owner_busy=cluster.busy / cluster.now,
        trials_per_owner_second=cluster.results / cluster.busy,
        median_ms=1000 * statistics.median(delays),
        p95_ms=1000 * delays[int(0.95 * len(delays))],
        memory_mb=(resident("VmHWM") - before) / 1e6,
        database_mb=size / 1e6,
    )


def resident(what: str) -> int:
    """Return this process's memory, `VmRSS` now or `VmHWM` at most, in bytes (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.partition(f"{what}:")[2].split()[0])


def table(rows: Iterator[Figures]) -> Iterator[str]:
    """Lay the figures out, a line for each run, as they come."""
    yield (
        "workers  bank   trials  utilised  steady  owner busy  trials/s  median ms   p95 ms"
        "  memory MB  database MB"
    )
    for row in rows:
        yield (
            f"{row.workers:7,}  {row.bank:4}  {row.trials:7,}  {row.utilisation:8.1%}"
            f"  {row.steady:6.1%}  {row.owner_busy:10.1%}  {row.trials_per_owner_second:8,.0f}"
            f"  {row.median_ms:9.2f}  {row.p95_ms:7.1f}  {row.memory_mb:9,.0f}"
            f"  {row.database_mb:11,.0f}"
        )


def main() -> None:
    """Measure each number of workers, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 16, 128, 1024])
    parser.add_argument("--trials", type=int, default=100_000, help="at most; 64 banks a worker")
    parser.add_argument("--bank", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--out", type=Path, help="a file for the figures, JSON")
    given = parser.parse_args()

    done: list[Figures] = []

    def measured() -> Iterator[Figures]:
        for workers in given.workers:
            gc.collect()
            trials = min(given.trials, 64 * workers * given.bank)
            done.append(measure(workers, given.bank, given.epochs, trials, given.clock))
            yield done[-1]

    for line in table(measured()):
        print(line, flush=True)
    if given.out:
        given.out.write_text(json.dumps([asdict(row) for row in done], indent=2) + "\n")


if __name__ == "__main__":
    main()
