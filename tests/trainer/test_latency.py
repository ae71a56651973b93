"""How fast a network answers: what is timed, how long that takes, and what is written down."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests.support.trainings import small
from trainer import checkpoint, latency
from trainer.data import ImageData
from trainer.device import native_bf16
from trainer.models import describe
from trainer.networks import Networks
from trainer.train import train

CPU = torch.device("cpu")
FIGURES = {"p50_ms", "p95_ms", "images_per_second"}
Passes = Callable[[float, list[float]], Callable[[], None]]


@pytest.fixture
def pass_of(monkeypatch: pytest.MonkeyPatch) -> Passes:
    """Makes passes that take so many seconds by the clock that times them; each is counted."""
    now = [0.0]
    monkeypatch.setattr(latency, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def made(seconds: float, counted: list[float]) -> Callable[[], None]:
        def one_pass() -> None:
            counted.append(seconds)
            now[0] += seconds

        return one_pass

    return made


def test_a_fast_network_is_timed_30_times_after_a_warm_up(pass_of: Passes) -> None:
    counted: list[float] = []
    assert len(latency.passes(pass_of(0.001, counted))) == 30
    assert len(counted) == 30 + latency.WARM_UP


def test_a_slow_network_is_timed_5_times_after_a_single_pass(pass_of: Passes) -> None:
    counted: list[float] = []
    assert latency.passes(pass_of(0.25, counted)) == [0.25] * 5
    assert len(counted) == 6


def test_between_them_the_time_is_the_limit(pass_of: Passes) -> None:
    assert len(latency.passes(pass_of(1 / 128, []))) == 13  # the first sum of at least 0.1 s


def test_median_95th_percentile_and_throughput_of_known_passes() -> None:
    seconds = [0.001 * (i + 1) for i in range(21)]  # 1 to 21 ms
    found = latency.summarise(seconds, 32)
    assert found["p50_ms"] == pytest.approx(11)
    assert found["p95_ms"] == pytest.approx(20)
    assert found["images_per_second"] == pytest.approx(32 / 0.011)


class Probe(nn.Module):
    """Notes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[tuple[int, ...], torch.dtype, bool, bool, bool]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        autocast = torch.is_autocast_enabled("cpu")
        inference = torch.is_inference_mode_enabled()
        self.seen.append((tuple(x.shape), x.dtype, autocast, inference, self.training))
        return x


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp64", "auto"])
def test_one_image_and_32_are_timed_in_the_precision_of_the_training(precision: str) -> None:
    probe = Probe()
    found = latency.inference(probe, small(precision=precision), (8, 1), CPU)
    assert set(found) == {"cpu"}
    assert set(found["cpu"]) == {"1", "32"}
    dtype = torch.float64 if precision == "fp64" else torch.float32
    half = precision == "bf16" or (precision == "auto" and native_bf16(CPU))
    assert set(probe.seen) == {
        ((size, 1, 8, 8), dtype, half, True, False) for size in latency.BATCH_SIZES
    }


def test_the_timing_neither_reads_nor_moves_the_global_generator() -> None:
    state = torch.get_rng_state()
    latency.inference(Probe(), small(), (8, 1), CPU)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_trial_has_its_latency_its_throughput_and_the_size_of_its_weights_file(
    digits: ImageData, tmp_path: Path
) -> None:
    (result,) = train([small(epochs=1)], digits)
    assert result.inference is not None
    assert set(result.inference) == {"cpu"}
    for size in ("1", "32"):
        figures = result.inference["cpu"][size]
        assert set(figures) == FIGURES
        assert 0 < figures["p50_ms"] <= figures["p95_ms"]
        assert figures["images_per_second"] == pytest.approx(int(size) * 1000 / figures["p50_ms"])
    assert result.latency_ms == result.inference["cpu"]["1"]["p50_ms"]
    assert result.state is not None
    checkpoint.write(tmp_path / "weights.safetensors", result.state, {})
    assert result.model_bytes == (tmp_path / "weights.safetensors").stat().st_size
    assert result.multiply_adds is not None
    assert result.multiply_adds == describe(small(), 8, 10).multiply_adds
    assert result.multiply_adds > (result.parameters or 0) > 0
    assert json.loads(json.dumps(result.to_dict()))["inference"] == result.inference


def test_the_size_of_the_weights_is_that_of_fp32_whatever_they_were_trained_in(
    digits: ImageData,
) -> None:
    full, double = (train([small(epochs=1, precision=p)], digits)[0] for p in ("fp32", "fp64"))
    assert full.model_bytes == double.model_bytes


def test_a_bank_is_timed_once_and_its_members_share_the_figures(
    digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = []
    measure = latency.inference

    def count(network: nn.Module, *rest: object) -> object:
        timed.append(network)
        return measure(network, *rest)  # type: ignore[arg-type] # as they came

    monkeypatch.setattr(latency, "inference", count)
    results = train([small(epochs=1, seed=seed) for seed in range(3)], digits)
    (network,) = timed
    assert isinstance(network, nn.Module)
    # Alone: the network of one member, not of the bank.
    assert sum(p.numel() for p in network.parameters()) == results[0].parameters
    assert results[0].inference == results[1].inference == results[2].inference


def test_the_seconds_of_a_trial_hold_its_epochs_and_its_test_but_not_the_timing(
    digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure, test = latency.inference, Networks.test
    passed = [0.0]  # seconds beside those that have really passed
    clock = SimpleNamespace(perf_counter=lambda: time.perf_counter() + passed[0])
    monkeypatch.setattr("trainer.train.time", clock)

    def slow_timing(*given: object) -> object:
        passed[0] += 20_000
        return measure(*given)  # type: ignore[arg-type] # as they came

    def slow_test(networks: Networks) -> object:
        passed[0] += 5000
        return test(networks)

    monkeypatch.setattr(latency, "inference", slow_timing)
    monkeypatch.setattr(Networks, "test", slow_test)
    (result,) = train([small(epochs=1)], digits)
    beside = result.seconds - sum(epoch.seconds for epoch in result.history)
    assert 5000 <= beside < 20_000


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_a_trial_of_a_gpu_is_timed_there_and_on_the_cpu(digits: ImageData) -> None:
    (result,) = train([small(epochs=1, precision="auto")], digits, device="cuda")
    assert result.inference is not None
    assert set(result.inference) == {"cuda", "cpu"}
    assert all(set(found) == {"1", "32"} for found in result.inference.values())
    assert result.latency_ms == result.inference["cuda"]["1"]["p50_ms"]
