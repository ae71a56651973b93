"""`--bank auto`: which sizes are measured, which is chosen, what is remembered."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import trainer
from study.plans.plan import load_plan
from study.run import calibration
from study.run import machine as machines
from study.run.calibration import Rates, best_bank_size, cache_folder
from study.run.executors.local import LocalExecutor
from study.run.hardware import worker_specs
from study.run.work import DesignedWork
from tests.support.plans import tiny
from tests.support.trainings import small
from trainer import convolutions
from trainer.calibration import best, best_way, curve, measured, throughput
from trainer.config import TrainConfig
from trainer.data import ImageData
from trainer.errors import UserError

CPU = torch.device("cpu")


def device_of(room: int, busy_at: int) -> Callable[[int], float]:
    """A device that holds `room` members, and is busy with `busy_at` of them."""

    def rate(members: int) -> float:
        if members > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 1000.0 * min(members, busy_at)

    return rate


def test_sizes_double_until_there_is_no_gain() -> None:
    found = curve(device_of(room=1000, busy_at=8))
    assert list(found) == [1, 2, 4, 8, 16, 32]  # twice in vain
    assert best(found) == 8


def test_a_full_memory_ends_it() -> None:
    found = curve(device_of(room=9, busy_at=64))
    assert list(found) == [1, 2, 4, 8]
    assert best(found) == 8


def test_a_memory_too_small_for_one_member_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        curve(device_of(room=0, busy_at=1))


def test_no_bank_is_larger_than_the_largest() -> None:
    assert max(curve(device_of(room=1000, busy_at=1000), most=16)) == 16


def test_it_takes_no_longer_than_it_may() -> None:
    now = 0.0

    def rate(members: int) -> float:
        nonlocal now
        now += 8.0
        return float(members)

    assert list(curve(rate, seconds=20, clock=lambda: now)) == [1, 2, 4]
    assert list(curve(rate, seconds=0, clock=lambda: now)) == [1]  # one is always measured


def test_where_fusion_loses_a_bank_has_one_member() -> None:
    assert best(curve(lambda members: 1000.0 / members)) == 1


def test_of_equally_fast_sizes_the_smallest_is_taken() -> None:
    assert best({1: 100.0, 2: 198.0, 4: 203.0, 8: 201.0}) == 2


def test_real_banks_are_measured(digits: ImageData) -> None:
    assert throughput(small(), digits, CPU, 2) > 0


def test_a_network_is_measured_at_every_size(
    digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def rate(config: TrainConfig, data: ImageData, device: torch.device, members: int) -> float:
        asked.append((config, data, device))
        return float(min(members, 2))

    monkeypatch.setattr("trainer.calibration.throughput", rate)
    rates = measured(small(), digits, CPU)
    assert rates == {1: 1, 2: 2, 4: 2, 8: 2, "separate": 2, "products": 2}
    assert set(map(id, asked[0])) == set(map(id, asked[-1]))


def test_every_way_to_convolve_is_measured_at_the_best_size_and_none_is_left_on(
    digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def rate(config: TrainConfig, data: ImageData, device: torch.device, members: int) -> float:
        del config, data, device
        way = convolutions.in_use(CPU, "fp32")
        asked.append((members, way))
        if way == "separate":
            raise RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED")
        return 10.0 * min(members, 2) * (3 if way == "products" else 1)

    monkeypatch.setattr("trainer.calibration.throughput", rate)
    rates = measured(small(), digits, CPU)
    assert asked[-2:] == [(2, "separate"), (2, "products")]
    assert (rates["products"], "separate" in rates) == (60.0, False)
    assert best_way(rates) == "products"
    assert convolutions.in_use(CPU, "fp32") == "grouped"


@pytest.mark.parametrize(
    ("rates", "way"),
    [
        ({1: 10.0, 2: 20.0}, "auto"),
        ({1: 10.0, 2: 20.0, "separate": 20.5, "products": 9.0}, "auto"),  # not worth it
        ({1: 10.0, 2: 20.0, "separate": 30.0, "products": 40.0}, "products"),
        ({1: 10.0, 2: 20.0, "separate": 30.0}, "separate"),
    ],
)
def test_workers_convolve_in_the_way_that_was_fastest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rates: dict[int | str, float], way: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(calibration, "_hardware", lambda _: "A GPU")
    monkeypatch.setattr(machines, "device_names", lambda _: ["cuda:0"])
    plan = tiny()
    assert size(cache_folder() / "banks.json", Measuring(rates), plan.base_config) == 2
    with machines.workers_for(plan, 4, machines.Machine()) as (executor, bank):
        assert isinstance(executor, LocalExecutor)
        assert (bank, {spec.convolutions for spec in executor.specs}) == (2, {way})
    monkeypatch.setattr(machines, "device_names", lambda _: ["cpu"])
    with machines.workers_for(plan, 4, machines.Machine()) as (executor, _):
        assert isinstance(executor, LocalExecutor)
        assert {spec.convolutions for spec in executor.specs} == {"auto"}


class Measuring:
    """A measurement of a device that is not there."""

    def __init__(self, *curves: Mapping[Any, float]) -> None:
        self.curves = iter(curves)
        self.calls = 0

    def __call__(self, config: TrainConfig, device: str, data_dir: Path | None) -> Rates:
        self.calls += 1
        return next(self.curves)


def size(
    cache: Path, measuring: Measuring, config: TrainConfig | None = None, name: str = "A GPU"
) -> int:
    return best_bank_size(
        config or small(),
        "cuda:0",
        None,
        cache=cache,
        hardware=lambda device: name,
        measure=measuring,
    )


def test_on_a_cpu_a_bank_has_one_member_and_nothing_is_measured(tmp_path: Path) -> None:
    measuring = Measuring()
    assert best_bank_size(small(), "cpu", None, cache=tmp_path / "c", measure=measuring) == 1
    assert measuring.calls == 0
    assert not (tmp_path / "c").exists()


def test_what_was_measured_is_remembered(tmp_path: Path) -> None:
    cache = tmp_path / "made" / "banks.json"
    measuring = Measuring({1: 10.0, 2: 20.0, 4: 15.0})
    assert [size(cache, measuring) for _ in range(3)] == [2, 2, 2]
    assert measuring.calls == 1
    assert [path.name for path in cache.parent.iterdir()] == ["banks.json"]


def test_another_device_or_network_is_measured_anew(tmp_path: Path) -> None:
    cache = tmp_path / "banks.json"
    measuring = Measuring({1: 1.0, 2: 2.0}, {1: 1.0}, {1: 1.0, 2: 2.0, 4: 4.0})
    assert size(cache, measuring) == 2
    assert size(cache, measuring, name="Another GPU") == 1
    assert size(cache, measuring, small(batch_size=128)) == 4
    # What differs between members does not matter.
    assert size(cache, measuring, small(learning_rate=0.1, seed=5)) == 2
    assert len(json.loads(cache.read_text())) == 3


@pytest.mark.parametrize("content", ["", "[]", '{"A GPU": 3}', '{"A": {"x": 1}}', "\0"])
def test_a_damaged_memory_is_measured_again(tmp_path: Path, content: str) -> None:
    cache = tmp_path / "banks.json"
    cache.write_text(content)
    assert size(cache, Measuring({1: 1.0, 2: 2.0})) == 2
    assert size(cache, Measuring()) == 2


def test_a_folder_that_cannot_be_written_costs_only_the_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert size(tmp_path / "file" / "banks.json", Measuring({1: 1.0, 2: 2.0})) == 2


def test_a_measurement_that_fails_says_what_to_do() -> None:
    # There is no such device here: the process that measures says so.
    with pytest.raises(UserError, match="give a number") as raised:
        calibration._measure_apart(small(), "cuda:99", None)
    assert "cuda:99" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "fmnist-study"


def test_a_size_that_cannot_be_measured_ends_it_once_there_is_one() -> None:
    def rate(members: int) -> float:
        if members == 4:
            raise RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED")
        return 100.0 * members

    assert curve(rate) == {1: 100.0, 2: 200.0}
    with pytest.raises(RuntimeError, match="CUDNN"):
        curve(lambda members: rate(4 * members))


def test_a_size_is_told_as_soon_as_it_is_measured() -> None:
    told = []

    def rate(members: int) -> float:
        if members == 4:
            raise SystemExit  # as a process that is killed: nothing comes back
        return 100.0

    with pytest.raises(SystemExit):
        curve(rate, tell=lambda members, own: told.append((members, own)))
    assert told == [(1, 100.0), (2, 100.0)]


def dying(config: object, device: object, data_dir: object, pipe: Any) -> None:
    """Measure two sizes, then die as a process does that CUDA or the kernel ends."""
    del config, device, data_dir
    pipe.send({1: 10.0})
    pipe.send({2: 20.0})
    os._exit(1)


def dead(*_: object) -> None:
    os._exit(1)


def test_sizes_that_were_measured_remain_where_the_process_dies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(calibration, "_serve", dying)
    assert calibration._measure_apart(small(), "cuda:0", None) == {1: 10.0, 2: 20.0}
    monkeypatch.setattr(calibration, "_serve", dead)
    with pytest.raises(UserError, match="the process died; give a number"):
        calibration._measure_apart(small(), "cuda:0", None)


@pytest.mark.parametrize("changes", [{"epochs": 50}, {"subset": 700}, {"validation_fraction": 0.3}])
def test_how_long_a_training_is_is_no_reason_to_measure_again(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    measuring = Measuring({1: 10.0, 2: 20.0})
    size(tmp_path / "c", measuring)
    size(tmp_path / "c", measuring, small(**changes))
    assert measuring.calls == 1


def test_other_code_is_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measuring = Measuring({1: 10.0, 2: 20.0}, {1: 10.0})
    assert size(tmp_path / "c", measuring) == 2
    monkeypatch.setattr(calibration, "_code", lambda: "changed")
    assert size(tmp_path / "c", measuring) == 1


def test_the_code_is_all_that_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "trainer"
    shutil.copytree(Path(trainer.__file__).parent, copy, ignore=lambda *_: ["__pycache__"])
    monkeypatch.setattr(trainer, "__file__", str(copy / "__init__.py"))
    before = calibration._code.__wrapped__()
    (copy / "architectures" / "convnet.py").write_text("# another network")
    assert calibration._code.__wrapped__() != before


def test_an_estimate_knows_the_curve_that_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(calibration, "_hardware", lambda _: "A GPU")
    monkeypatch.setattr(machines, "device_names", lambda _: ["cuda:0"])
    plan = tiny()
    cache = cache_folder() / "banks.json"
    measuring = Measuring({1: 10.0, 2: 19.0, 4: 30.0})
    size(cache, measuring, plan.base_config)
    machine = machines.Machine(bank=3)
    assert machines.gain(plan, machine, 1) == 1.0
    assert machines.gain(plan, machine, 3) == 1.9  # of the next smaller size
    assert machines.gain(plan, machine, 64) == 3.0
    monkeypatch.setattr(machines, "device_names", lambda _: ["cpu"])
    assert machines.gain(plan, machine, 3) == 1.0


@pytest.mark.parametrize("gpus", [1, 2, 8])
@pytest.mark.parametrize("bank", [1, 8, 16, 64])
@pytest.mark.parametrize("name", ["ablation", "pooling", "structure", "references"])
def test_every_gpu_has_its_share_of_the_trials(
    name: str, bank: int, gpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"cuda:{i}" for i in range(gpus)]
    monkeypatch.setattr(machines, "device_names", lambda _: names)
    plan = load_plan(name)
    size = machines.bank_size(plan, machines.Machine(bank=bank), plan.trial_count)
    banks = [len(tasks) for tasks in DesignedWork(plan, [], size).queue]
    assert sum(banks) == plan.trial_count
    assert max(banks) <= min(bank, -(-plan.trial_count // gpus))
    specs = worker_specs(names, None, plan.trial_count, plan.dataset, None)
    assert {spec.device for spec in specs} == set(names[: plan.trial_count])
    if plan.trial_count >= 4 * gpus:
        assert len(banks) >= len(specs)  # nobody is idle from the start
