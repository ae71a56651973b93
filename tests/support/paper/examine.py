"""Put banks on the GPU of paper and say what is to be objected to: JSON lines in, JSON lines out.

    python -m tests.support.paper.examine [LIBRARY] < cases

A case is `{"configs": [...], "mutant": name or null, "convolutions": way, "triton": whether it is
there}`; its answer `{"step": kernels, "validation": kernels, "objections": [...], "names": {kernel:
count}}`.
"""

import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import unset_fake_temporarily

from tests.support.paper.gpu import mode, pretend, watched
from trainer import convolutions, device, fused, networks
from trainer.bank import Bank
from trainer.config import TrainConfig
from trainer.data import ImageData, load, split
from trainer.models import build


def _cpu_axis(bank: Bank) -> None:
    with unset_fake_temporarily():
        bank.augmentation.axis = torch.arange(bank.data.side)


def _after_each_step(bank: Bank, also: Callable[[Tensor], Tensor]) -> None:
    step = bank._step
    bank._step = lambda *given: also(step(*given))  # type: ignore[method-assign]


def _read_loss(totals: Tensor) -> Tensor:
    float(totals.sum())
    return totals


def _branch_on_loss(totals: Tensor) -> Tensor:
    return totals + 1 if totals.isfinite().all() else totals


def _select_images(bank: Bank) -> None:
    step = bank._step
    bank._step = lambda batch, places: step(batch[batch.sum(1) >= 0], places)  # type: ignore[method-assign]


def _constant_from_host(totals: Tensor) -> Tensor:
    return totals * torch.tensor([1.0])


def _rates_of_python(bank: Bank) -> None:
    bank.optimizer.rates = None


def _other_layout(bank: Bank) -> None:
    for group in bank.optimizer.groups:
        assert group.gradients is not None
        group.gradients = [
            gradient.mT.contiguous().mT if gradient.dim() == 4 else gradient
            for gradient in group.gradients
        ]


def _counter_on_host(bank: Bank) -> None:
    with unset_fake_temporarily():
        bank.optimizer.steps = torch.zeros(())
    for group in bank.optimizer.groups:
        group.steps = [bank.optimizer.steps] * len(group.weights)


# Mistakes that would break a capture or a run on a GPU, each of a kind of its own.
MUTANTS: dict[str, Callable[[Bank], None]] = {
    "a tensor that was left on the CPU": _cpu_axis,
    "the loss is read in every step": lambda bank: _after_each_step(bank, _read_loss),
    "a branch that depends on the loss": lambda bank: _after_each_step(bank, _branch_on_loss),
    "images chosen by a mask": _select_images,
    "figures go to the host and back": lambda bank: _after_each_step(
        bank, lambda totals: totals.cpu().to(totals.device)
    ),
    "a constant that is copied from the host": lambda bank: _after_each_step(
        bank, _constant_from_host
    ),
    "learning rates that Python looks up": _rates_of_python,
    "gradients in another layout": _other_layout,
    "Adam's counter on the CPU": _counter_on_host,
}


def network_on_paper(
    gpu: torch.device,
    configs: Sequence[TrainConfig],
    side: int,
    classes: int,
    channels: int,
    *,
    start: bool,
) -> nn.Module:
    """Build a real network on the CPU, then put it on paper as it lies in memory."""
    dtype = torch.float64 if configs[0].precision == "fp64" else torch.float32
    with unset_fake_temporarily():
        network = build(configs, side, classes, channels, start=start).to(dtype)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stub lacks it

    def moved(tensor: Tensor) -> Tensor:
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=gpu)

    for module in network.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(moved(parameter))
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = moved(buffer)
    network.to = lambda *_, **__: network  # type: ignore[method-assign] # it is there
    return network


def bank_on_paper(gpu: torch.device, configs: Sequence[TrainConfig], data: ImageData) -> Bank:
    """Return a bank of tensors without values, ready for the steps of its first epoch."""
    fused._placement.cache_clear()
    bank = Bank(configs, data, gpu, start=False)
    used = bank.steps_per_epoch * bank.batch_size
    bank.drawn = 1, torch.zeros(bank.members, used, dtype=torch.int64)
    bank.begin_epoch(1)
    return bank


def examine(
    gpu: torch.device, configs: Sequence[TrainConfig], data: ImageData, mutant: str | None
) -> dict[str, Any]:
    """Return what a bank's step and validation are on paper."""
    for config in configs:  # what reads values is drawn before
        split(data, config)
    with mode(gpu):
        bank = bank_on_paper(gpu, configs, data)
        if mutant is not None:
            MUTANTS[mutant](bank)
        try:
            step = watched(bank._next_step, before=1)
            bank.network.eval()
            validation = watched(bank._next_validation)
        except Exception as error:  # fake tensors object themselves to much
            return {"objections": [f"{type(error).__name__}: {str(error).splitlines()[0]}"]}
    return {
        "step": step.kernels.total(),
        "validation": validation.kernels.total(),
        "objections": step.objections + validation.objections,
        "names": dict(step.kernels.most_common()),
    }


def main() -> None:
    """Answer case by case."""
    gpu = pretend(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    vars(networks)["build"] = partial(network_on_paper, gpu)
    digits = load("digits")
    _ = digits.normalisation, digits.splits
    for line in sys.stdin:
        case = json.loads(line)
        configs = [TrainConfig.from_dict(values) for values in case["configs"]]
        convolutions.use(case.get("convolutions") or "grouped")
        vars(device)["triton_is_there"] = lambda case=case: case.get("triton", False)
        print(json.dumps(examine(gpu, configs, digits, case.get("mutant"))), flush=True)


if __name__ == "__main__":
    main()
