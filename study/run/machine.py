"""Which part of the machine a run uses: its workers, and what the run will cost on them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from study.plans.plan import Plan
from study.run.calibration import best_bank_size, best_convolutions, known_curve
from study.run.executors import Executor, Request, UserCode, plugins
from study.run.hardware import device_names, worker_count
from study.run.work import Work
from trainer.config import TrainConfig
from trainer.errors import UserError, choose
from trainer.results import Cost

KINDS = ("auto", "cpu", "cuda")  # of devices, where other machines train


@dataclass(frozen=True)
class Machine:
    """Which part of the machine a run uses, and how."""

    device: str = "auto"
    workers: int | None = None  # None: one per core or GPU
    bank: int | None = None  # None: 1 on CPUs, on GPUs what is measured to be fastest
    executor: str = "local"
    data_dir: Path | None = None
    threads: int | None = None  # of each worker on CPUs; None: what `workers` leaves to each
    address: str | None = None  # of a cluster

    def __post_init__(self) -> None:
        """Check what was given."""
        remote = plugins.is_remote(self.executor)
        if self.address is not None and not remote:
            raise UserError(
                f"ray_address = {self.address!r}: executor = {self.executor!r} has no cluster; "
                "add --executor ray"
            )
        if remote and self.device not in KINDS:
            raise UserError(choose("device", self.device, KINDS))
        for name in ("workers", "bank", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} = {value}: must be at least 1")

    @property
    def devices(self) -> list[str]:
        """Names of the devices that are used here; none where other machines train.

        Raises:
            UserError: there is no such device.
        """
        return [] if plugins.is_remote(self.executor) else device_names(self.device)


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
        """Why networks of the user's cannot be trained in banks of more than one."""
        return next((cost.obstacle for _, cost in self.costs if cost.obstacle), None)


def bank_size(plan: Plan, machine: Machine, trials: int) -> int:
    """Return how many members a bank has at most, so that so many trials keep every worker busy.

    Where several GPUs share the trials, no bank holds more than its worker's share of them
    (`share`). Other machines' share is known when they have answered.

    Raises:
        UserError: there is no such device.
    """
    devices = machine.devices
    if plan.base_config.is_foreign:
        return 1
    if not devices:
        return machine.bank or 1
    size = machine.bank or best_bank_size(plan.base_config, devices[0], machine.data_dir)
    return share(size, trials, worker_count(devices, machine.workers, trials, machine.threads))


def share(bank: int, trials: int, slots: int) -> int:
    """Return how many members a bank has at most, where so many workers share so many trials."""
    return min(bank, -(-max(trials, 1) // max(slots, 1)))


def gain(plan: Plan, machine: Machine, bank: int) -> float:
    """Return how many times as fast a bank trains its members as one after the other.

    As measured for `--bank auto`; 1 where nothing was measured.
    """
    devices = [] if plan.base_config.is_foreign else machine.devices
    curve = known_curve(plan.base_config, devices[0]) if devices else {}
    sizes = [size for size in curve if size <= bank]
    return curve[max(sizes)] / curve[1] if sizes and 1 in curve else 1.0


@contextmanager
def workers_for(
    plan: Plan, trials: int, machine: Machine, tell: Callable[[str], None] = lambda _: None
) -> Iterator[tuple[Executor, int]]:
    """Yield an executor for so many trials (not started), and how many members its banks have.

    Raises:
        UserError: there is no such device, or nothing can be measured on it.
    """
    bank = bank_size(plan, machine, trials)
    devices = machine.devices
    executor = plugins.maker(machine.executor)(
        Request(
            dataset=plan.dataset,
            data_dir=machine.data_dir,
            device=machine.device,
            devices=tuple(devices),
            workers=machine.workers,
            threads=machine.threads,
            trials=trials,
            bank=machine.bank,
            address=machine.address,
            convolutions=best_convolutions(plan.base_config, devices[0]) if devices else "auto",
            code=_code(plan),
            tell=tell,
        )
    )
    try:
        yield executor, bank
    finally:
        executor.close()


def _code(plan: Plan) -> UserCode:
    """Return what of the user's a plan trains."""
    config, spaces = plan.base_config, plan.search.space if plan.search else ()
    key = "trainer" if config.is_foreign else "architecture"
    tried = {**plan.varied, **{parameter.name: parameter.levels for parameter in spaces}}
    names = dict.fromkeys(map(str, (getattr(config, key), *tried.get(key, ()))))
    return UserCode(
        folders=(plan.folder,) if plan.folder else (),
        functions=tuple((key, name) for name in names if ":" in name),
        command=config.command if config.is_foreign else None,
    )


def _training_images(plan: Plan, data: Mapping[str, Any]) -> int:
    images: int = plan.subset or data["train_images"]
    validating = 0 if data.get("validation_images") else plan.base_config.validation_fraction
    return images - round(images * validating)


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
    return Estimate(
        trials=work.planned - work.done,
        seconds=work.seconds_waiting() / executor.slots,
        workers=executor.slots,
        devices=devices,
        training_images=_training_images(plan, described["dataset"]),
        costs=tuple(zip(kinds, costs, strict=True)),
    )
