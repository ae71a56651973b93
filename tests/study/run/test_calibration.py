"""`--bank auto`: which sizes are measured, which is chosen, what is remembered."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from study.run import calibration
from study.run.calibration import best_bank_size, cache_folder
from tests.support.trainings import small
from trainer.calibration import best, curve, measured, throughput
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
    assert measured(small(), digits, CPU) == {1: 1, 2: 2, 4: 2, 8: 2}
    assert set(map(id, asked[0])) == set(map(id, asked[-1]))


class Measuring:
    """A measurement of a device that is not there."""

    def __init__(self, *curves: dict[int, float]) -> None:
        self.curves: Iterator[dict[int, float]] = iter(curves)
        self.calls = 0

    def __call__(self, config: TrainConfig, device: str, data_dir: Path | None) -> dict[int, float]:
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
