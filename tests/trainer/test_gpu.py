"""The same promises on a CUDA device. Run them there: `pytest -m gpu`."""

import warnings

import pytest
import torch

from tests.support.trainings import MIXED, losses, small
from trainer import convolutions
from trainer.bank import Bank
from trainer.cost import measure
from trainer.cuda_graph import GRAPHS, WARM_UP
from trainer.data import ImageData
from trainer.device import native_bf16, resolve
from trainer.train import train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
]


def test_a_bank_on_the_gpu_trains_each_member_as_alone(digits: ImageData) -> None:
    configs = [small(**member) for member in MIXED]
    for config, fused in zip(configs, train(configs, digits, device="cuda"), strict=True):
        (alone,) = train([config], digits, device="cuda")
        assert losses(fused) == pytest.approx(losses(alone), rel=5e-3)


def test_gpu_and_cpu_draw_the_same_random_numbers(digits: ImageData) -> None:
    config = small(epochs=1, dropout=0.5, augmentation="flip+erase+translate+crop+rotate")
    on_gpu, on_cpu = (train([config], digits, device=name)[0] for name in ("cuda", "cpu"))
    assert losses(on_gpu) == pytest.approx(losses(on_cpu), rel=2e-2)


def test_it_learns_in_bf16_where_the_gpu_has_it(digits: ImageData) -> None:
    (result,) = train([small(width=16, epochs=8, precision="auto")], digits, device="cuda")
    assert result.precision == ("bf16" if native_bf16(resolve("cuda")) else "fp32")
    assert result.val_accuracy is not None
    assert result.val_accuracy > 0.95


def test_a_cost_is_measured_on_the_gpu(digits: ImageData) -> None:
    assert measure(small(), digits, "cuda").seconds > 0


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_captured_steps_are_the_steps_one_by_one(
    digits: ImageData, optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(optimizer=optimizer, schedule="cosine", dropout=0.3, augmentation="flip+crop")
    captured = train([config], digits, device="cuda")[0]
    monkeypatch.setenv(f"FMNIST_STUDY_{GRAPHS}", "0")
    one_by_one = train([config], digits, device="cuda")[0]
    assert losses(captured) == pytest.approx(losses(one_by_one), rel=1e-4)


def test_a_captured_bank_trains_each_member_as_alone_without_graphs(
    digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = [small(**member) for member in MIXED]
    together = train(configs, digits, device="cuda")
    monkeypatch.setenv(f"FMNIST_STUDY_{GRAPHS}", "0")
    for config, fused in zip(configs, together, strict=True):
        (alone,) = train([config], digits, device="cuda")
        assert losses(fused) == pytest.approx(losses(alone), rel=5e-3)


def test_a_captured_bank_convolves_in_triton_as_by_cudnn(digits: ImageData) -> None:
    pytest.importorskip("triton", reason="triton is not installed")
    configs = [small(width=32, depth=3, precision="bf16", **member) for member in MIXED]
    trained = {}
    try:
        for way in ("grouped", "triton"):
            convolutions.use(way)
            trained[way] = train(configs, digits, device="cuda")
    finally:
        convolutions.use("auto")
    for ours, theirs in zip(trained["triton"], trained["grouped"], strict=True):
        assert (ours.convolutions, theirs.convolutions) == ("triton", "grouped")
        assert losses(ours) == pytest.approx(losses(theirs), rel=2e-2)


def test_the_host_waits_for_nothing_inside_an_epoch(digits: ImageData) -> None:
    bank = Bank([small(**member) for member in MIXED], digits, resolve("cuda"))
    bank.begin_epoch(1)
    for _ in range(WARM_UP + 1):
        bank.next_step()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls the mode a prototype each time it is set
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(5):
                bank.next_step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(bank.totals).all()
