"""Which part of the machine a run uses: its workers, and what the run will cost on them."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from study.plans.plan import Plan
from study.run.calibration import best_bank_size, best_convolutions, known_curve
from study.run.executors import Executor
from study.run.hardware import cpu_threads, device_names, worker_count, worker_specs
from study.run.work import Work
from trainer.config import TrainConfig
from trainer.errors import UserError, choose
from trainer.results import Cost

EXECUTORS = ("local", "inline")
STALL = "FMNIST_STALL_SECONDS"  # environment: without an epoch so long, a training hangs


@dataclass(frozen=True)
class Machine:
    """Which part of the machine a run uses, and how."""

    device: str = "auto"
    workers: int | None = None  # None: one per core or GPU
    bank: int | None = None  # None: 1 on CPUs, on GPUs what is measured to be fastest
    executor: str = "local"
    data_dir: Path | None = None
    threads: int | None = None  # of each worker on CPUs; None: what `workers` leaves to each

    def __post_init__(self) -> None:
        """Check what was given."""
        if self.executor not in EXECUTORS:
            raise UserError(choose("executor", self.executor, EXECUTORS))
        for name in ("workers", "bank", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} = {value}: must be at least 1")

    @property
    def cpu_threads(self) -> int | None:
        """Threads of each worker where it trains on the CPU, else None."""
        on_cpu = device_names(self.device) == ["cpu"]
        return (self.threads or cpu_threads(self.workers)) if on_cpu else None


@dataclass(frozen=True)
class Estimate:
    """What a run will cost."""

    trials: int  # to be run
    seconds: float  # of wall time, on these workers
    workers: int
    devices: tuple[str, ...]
    training_images: int  # of each trial
    costs: tuple[tuple[TrainConfig, Cost], ...]  # of each kind of trial; none: not measured
    bank: int = 1  # members at most

    @property
    def obstacle(self) -> str | None:
        """Why networks of the user's are trained in banks of one although there could be more."""
        reasons = (cost.obstacle for _, cost in self.costs if cost.obstacle)
        return next(reasons, None) if self.bank > 1 else None


def bank_size(plan: Plan, machine: Machine, trials: int) -> int:
    """Return how many members a bank has at most, so that so many trials keep every worker busy.

    Where several GPUs share the trials, no bank holds more than its worker's share of them.

    Raises:
        UserError: there is no such device.
    """
    devices = device_names(machine.device)
    if plan.base_config.is_foreign:
        return 1
    size = machine.bank or best_bank_size(plan.base_config, devices[0], machine.data_dir)
    slots = worker_count(devices, machine.workers, trials, machine.threads)
    return min(size, -(-max(trials, 1) // slots))


def gain(plan: Plan, machine: Machine, bank: int) -> float:
    """Return how many times as fast a bank trains its members as one after the other.

    As measured for `--bank auto`; 1 where nothing was measured.
    """
    if plan.base_config.is_foreign:
        return 1.0
    device = device_names(machine.device)[0]
    curve = known_curve(plan.base_config, device)
    sizes = [size for size in curve if size <= bank]
    return curve[max(sizes)] / curve[1] if sizes and 1 in curve else 1.0


@contextmanager
def workers_for(plan: Plan, trials: int, machine: Machine) -> Iterator[tuple[Executor, int]]:
    """Yield an executor for so many trials (not started), and how many members its banks have.

    Raises:
        UserError: there is no such device, or nothing can be measured on it.
    """
    devices = device_names(machine.device)
    bank = bank_size(plan, machine, trials)
    specs = worker_specs(
        devices, machine.workers, trials, plan.dataset, machine.data_dir, threads=machine.threads
    )
    specs = [replace(spec, **_work_of(plan, devices[0])) for spec in specs]
    executor: Executor
    if machine.executor == "inline":
        from study.run.executors.inline import InlineExecutor

        executor = InlineExecutor(specs[:1])
    else:
        from study.run.executors.local import LocalExecutor

        executor = LocalExecutor(specs, stall=_stall_seconds())
    try:
        yield executor, bank
    finally:
        executor.close()


def _work_of(plan: Plan, device: str) -> dict[str, Any]:
    """Return what workers need to know of a plan's work."""
    config = plan.base_config
    code = {"folders": (plan.folder,) if plan.folder else (), "functions": _functions(plan)}
    if config.is_foreign:
        return {**code, "command": config.command}
    return {**code, "convolutions": best_convolutions(config, device)}


def _functions(plan: Plan) -> tuple[tuple[str, str], ...]:
    """Return the functions of the user's that a plan trains, each with the key that names it."""
    spaces = plan.search.space if plan.search else ()
    levels = {**plan.varied, **{parameter.name: parameter.levels for parameter in spaces}}
    keys = ("trainer",) if plan.base_config.is_foreign else ("architecture",)
    named = ((k, v) for k in keys for v in (getattr(plan.base_config, k), *levels.get(k, ())))
    return tuple(dict.fromkeys((key, str(value)) for key, value in named if ":" in str(value)))


def _stall_seconds() -> float:
    """Return how long a training may go without an epoch, or a step of ours.

    Raises:
        UserError: the environment's value is no number of seconds.
    """
    text = os.environ.get(STALL, "300")
    if not text.isdecimal() or not 1 <= int(text) <= 10**7:
        raise UserError(f"{STALL} = {text!r}: must be a whole number of seconds, from 1")
    return float(text)


def estimate(
    plan: Plan, work: Work, executor: Executor, described: Mapping[str, Any], gain: float = 1.0
) -> Estimate:
    """Measure on started workers what is left to do; the work learns it too.

    Args:
        plan, work: what is to be done.
        executor: where.
        described: what its workers say of themselves and of their data.
        gain: how many times as fast trials are in banks as alone, which is how they are measured.

    Raises:
        UserError: a config cannot be trained here.
    """
    devices = tuple(dict.fromkeys(described["devices"]))
    if plan.base_config.is_foreign:  # how long it takes is known when it is over
        return Estimate(work.planned - work.done, 0.0, executor.slots, devices, 0, ())
    kinds = work.kinds()
    costs = [replace(cost, seconds=cost.seconds / gain) for cost in executor.measure(kinds)]
    work.learn(costs)
    images = plan.subset or described["dataset"]["train_images"]
    return Estimate(
        trials=work.planned - work.done,
        seconds=work.seconds_waiting() / executor.slots,
        workers=executor.slots,
        devices=devices,
        training_images=images - round(images * plan.base_config.validation_fraction),
        costs=tuple(zip(kinds, costs, strict=True)),
    )
