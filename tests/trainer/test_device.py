"""Names of devices, and the precision that each one trains in."""

import ctypes
import sys

import pytest
import torch

from study.run.hardware import device_names
from trainer import device as devices
from trainer.config import TrainConfig
from trainer.data import ImageData
from trainer.errors import UserError
from trainer.networks import Networks

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def machine(monkeypatch: pytest.MonkeyPatch, gpus: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)


@pytest.mark.parametrize(
    ("name", "gpus", "expected"),
    [
        ("auto", 0, "cpu"),
        ("auto", 2, "cuda:0"),
        ("cpu", 0, "cpu"),
        ("cpu", 2, "cpu"),
        ("cuda", 1, "cuda:0"),
        ("cuda:1", 2, "cuda:1"),
    ],
)
def test_a_name_stands_for_a_device(
    monkeypatch: pytest.MonkeyPatch, name: str, gpus: int, expected: str
) -> None:
    machine(monkeypatch, gpus)
    assert devices.resolve(name) == torch.device(expected)


@pytest.mark.parametrize(
    ("name", "gpus", "message"),
    [
        ("cuda", 0, "this machine has cpu and no CUDA device"),
        ("cuda:0", 0, "this machine has cpu and no CUDA device"),
        ("cuda:2", 2, "this machine has cpu and cuda:0 to cuda:1"),
        ("gpu", 1, "choose auto, cpu, cuda, or cuda:0,1,..."),
        ("cpu:1", 1, "choose auto"),
        ("cuda:", 1, "choose auto"),
        ("cuda:x", 1, "choose auto"),
        ("cuda:²", 1, "choose auto"),
        ("cuda:-1", 1, "choose auto"),
        ("mps", 1, "choose auto"),
        ("", 1, "choose auto"),
    ],
)
def test_another_name_is_a_users_error_that_says_what_is_here(
    monkeypatch: pytest.MonkeyPatch, name: str, gpus: int, message: str
) -> None:
    machine(monkeypatch, gpus)
    with pytest.raises(UserError) as caught:
        devices.resolve(name)
    assert str(caught.value).startswith(f"device = {name!r}: {message}")


@pytest.mark.parametrize("native", [True, False])
def test_auto_precision_is_bf16_exactly_where_the_device_computes_in_it(
    monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    for device in (CPU, GPU):
        assert devices.precision(TrainConfig(), device) == ("bf16" if native else "fp32")


@pytest.mark.parametrize("precision", ["bf16", "fp32", "fp64"])
def test_a_precision_asked_for_is_kept(precision: str) -> None:
    assert devices.precision(TrainConfig(precision=precision), CPU) == precision


@pytest.mark.parametrize(("threads", "text"), [(1, "cpu (1 thread)"), (3, "cpu (3 threads)")])
def test_the_cpu_is_described_with_its_threads(
    monkeypatch: pytest.MonkeyPatch, threads: int, text: str
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert devices.describe(CPU) == text


def test_a_worker_process_gets_its_threads_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())  # a libc without mallopt, as musl's
    for platform in ("linux", "darwin", "win32"):
        monkeypatch.setattr(sys, "platform", platform)
        devices.prepare_process(1)
    assert asked == [1, 1, 1]


def test_a_gpu_that_is_used_is_the_current_one_and_computes_as_its_precision_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    flags = [
        (matmul, "allow_tf32", False),
        (matmul, "allow_bf16_reduced_precision_reduction", False),
        (cudnn, "allow_tf32", False),
        (cudnn, "deterministic", True),
        (cudnn, "benchmark", False),
    ]
    before = [getattr(module, name) for module, name, _ in flags]
    try:
        for module, name, expected in flags:
            setattr(module, name, not expected)
        devices.use(CPU)
        assert all(bool(getattr(module, name)) is not wanted for module, name, wanted in flags)
        devices.use(torch.device("cuda", 3))
        assert current == [torch.device("cuda", 3)]
        for module, name, wanted in flags:
            assert bool(getattr(module, name)) is wanted, name
    finally:
        for (module, name, _), value in zip(flags, before, strict=True):
            setattr(module, name, value)


def test_a_bank_uses_its_device_before_anything_lies_there(
    digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    class UsedError(Exception):
        pass

    def use(device: torch.device) -> None:
        assert device == torch.device("cuda", 1)
        raise UsedError

    monkeypatch.setattr(devices, "use", use)
    with pytest.raises(UsedError):
        Networks([TrainConfig(dataset="digits")], digits, torch.device("cuda", 1))


@pytest.mark.parametrize("built", [False, True])
def test_where_pytorch_is_built_for_cpus_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, built: bool
) -> None:
    machine(monkeypatch, 0)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: built)
    for ask in (devices.resolve, device_names):
        with pytest.raises(UserError) as caught:
            ask("cuda")
        message = str(caught.value)
        assert ("build for CPUs only: for a GPU install 'torch'" in message) is not built
        assert "\n" not in message
