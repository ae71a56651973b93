"""Schedules are PyTorch's, and a bank's optimiser is K of PyTorch's."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.optim import lr_scheduler

from tests.support.trainings import small
from trainer.config import TrainConfig
from trainer.layers import Convolution, Linear, by_member
from trainer.optim import BankOptimizer, learning_rates

RATE = 0.1


def pytorch_rates(config: TrainConfig, steps_per_epoch: int) -> list[float]:
    """The learning rate of each step, from PyTorch's scheduler of the same name."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=config.learning_rate)
    total = config.epochs * steps_per_epoch
    schedulers: dict[str, Callable[[], Any]] = {
        "constant": lambda: lr_scheduler.LambdaLR(optimizer, lambda _: 1.0),
        "step": lambda: lr_scheduler.StepLR(optimizer, config.step_epochs, config.step_factor),
        "exponential": lambda: lr_scheduler.ExponentialLR(optimizer, config.exponential_factor),
        "cosine": lambda: lr_scheduler.CosineAnnealingLR(optimizer, total),
        "one-cycle": lambda: lr_scheduler.OneCycleLR(
            optimizer, config.learning_rate, total, cycle_momentum=False
        ),
    }
    scheduler = schedulers[config.schedule]()
    per_epoch = config.schedule in ("step", "exponential")
    rates = []
    for step in range(1, total + 1):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < total and not (per_epoch and step % steps_per_epoch):
            scheduler.step()
    return rates


@pytest.mark.parametrize("schedule", ["constant", "step", "exponential", "cosine", "one-cycle"])
@pytest.mark.parametrize(
    ("epochs", "steps"), [(1, 1), (1, 2), (2, 1), (3, 1), (1, 4), (5, 7), (24, 3), (1, 1000)]
)
def test_a_schedule_gives_the_rates_of_pytorchs_scheduler(
    schedule: str, epochs: int, steps: int
) -> None:
    config = TrainConfig(
        schedule=schedule,
        epochs=epochs,
        learning_rate=RATE,
        step_epochs=4,
        step_factor=0.3,
        exponential_factor=0.9,
    )
    expected = pytorch_rates(config, steps)
    assert learning_rates(config, steps) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_one_cycle_rises_for_30_percent_of_the_steps_and_ends_low() -> None:
    rates = learning_rates(TrainConfig(epochs=10, learning_rate=RATE), 10)
    assert rates[0] == pytest.approx(RATE / 25)
    assert rates.argmax() == 29
    assert rates.max() == pytest.approx(RATE)
    assert rates[-1] == pytest.approx(RATE / 250_000)


MEMBERS: list[dict[str, Any]] = [
    {"learning_rate": 0.1, "weight_decay": 0.0, "momentum": 0.9},
    {"learning_rate": 0.003, "weight_decay": 0.1, "momentum": 0.0},
    {"learning_rate": 0.02, "weight_decay": 0.01, "momentum": 0.5, "schedule": "cosine"},
]


def configs(optimizer: str) -> list[TrainConfig]:
    return [TrainConfig(optimizer=optimizer, epochs=2, **member) for member in MEMBERS]


def network(members: int) -> nn.Module:
    """A convolution with bias and a linear layer, random weights."""
    network = nn.Sequential(Convolution(members, 2, 3, 3, bias=True), Linear(members, 4, 5))
    network.to(torch.float64)
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, generator=generator)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return] # torch's stub lacks it


def own(tensors: list[Tensor], k: int) -> list[Tensor]:
    return [by_member(tensor.detach(), len(MEMBERS))[k].clone() for tensor in tensors]


def gradients(parameters: list[Tensor], step: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(step)
    return [torch.randn(p.shape, dtype=p.dtype, generator=generator) for p in parameters]


PYTORCH: dict[str, Any] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}
EACH = pytest.mark.parametrize("name", PYTORCH)


def give(parameter: Tensor, gradient: Tensor) -> None:
    """Add a gradient as `backward` does: in place, or in the memory layout of the parameter."""
    if parameter.grad is None:
        parameter.grad = torch.empty_like(parameter).copy_(gradient)
    else:
        parameter.grad += gradient


@EACH
def test_a_bank_optimizer_is_one_pytorch_optimizer_per_member(name: str) -> None:
    steps = 10
    bank = network(len(MEMBERS))
    parameters: list[Tensor] = list(bank.parameters())
    alone = [own(parameters, k) for k in range(len(MEMBERS))]
    optimizer = BankOptimizer(bank, configs(name), steps)
    references = []
    for config, weights in zip(configs(name), alone, strict=True):
        options = {"momentum": config.momentum} if name == "sgd" else {}
        references.append(
            PYTORCH[name](weights, lr=RATE, weight_decay=config.weight_decay, **options)
        )
    rates = [learning_rates(config, steps) for config in configs(name)]
    for step in range(2 * steps):
        drawn = gradients(parameters, step)
        for parameter, gradient in zip(parameters, drawn, strict=True):
            give(parameter, gradient)
        optimizer.step(step)
        for k, reference in enumerate(references):
            for weight, gradient in zip(alone[k], own(drawn, k), strict=True):
                weight.grad = gradient
            reference.param_groups[0]["lr"] = rates[k][step]
            reference.step()
    for k, weights in enumerate(alone):
        for fused, weight in zip(own(parameters, k), weights, strict=True):
            torch.testing.assert_close(fused, weight, rtol=1e-12, atol=1e-12)


@EACH
def test_a_bank_of_one_is_the_plain_optimizer(name: str) -> None:
    (config,) = configs(name)[:1]
    module = network(1)
    parameters: list[Tensor] = list(module.parameters())
    plain = [parameter.detach().clone() for parameter in parameters]
    optimizer = BankOptimizer(module, [config], 5)
    options = {"momentum": config.momentum} if name == "sgd" else {}
    reference = PYTORCH[name](plain, lr=RATE, weight_decay=config.weight_decay, **options)
    for step in range(10):
        drawn = gradients(parameters, step)
        for parameter, weight, gradient in zip(parameters, plain, drawn, strict=True):
            give(parameter, gradient)
            weight.grad = gradient
        optimizer.step(step)
        reference.param_groups[0]["lr"] = learning_rates(config, 5)[step]
        reference.step()
    for parameter, weight in zip(parameters, plain, strict=True):
        torch.testing.assert_close(parameter.detach(), weight, rtol=1e-12, atol=1e-12)


@EACH
def test_rates_read_on_the_device_are_those_that_the_host_sets(name: str) -> None:
    found = []
    for on_device in (False, True):
        module = network(len(MEMBERS)).float()
        optimizer = BankOptimizer(module, configs(name), 5, on_device=on_device)
        for step in range(10):
            drawn = gradients(list(module.parameters()), step)
            for parameter, gradient in zip(module.parameters(), drawn, strict=True):
                give(parameter, gradient)
            optimizer.step(torch.tensor(step, dtype=torch.int32) if on_device else step)
        found.append([parameter.detach() for parameter in module.parameters()])
    for host, device in zip(*found, strict=True):
        torch.testing.assert_close(host, device, rtol=1e-5, atol=1e-6)


@EACH
@pytest.mark.parametrize("members", [1, 3])
def test_a_step_clears_the_gradients(name: str, members: int) -> None:
    bank = network(members)
    optimizer = BankOptimizer(bank, configs(name)[:members], 5)
    for parameter in bank.parameters():
        give(parameter, torch.ones_like(parameter))
    optimizer.step(0)
    assert all(p.grad is None or not p.grad.any() for p in bank.parameters())


@EACH
@pytest.mark.parametrize("taken_before", [0, 5])
def test_a_member_goes_on_in_a_smaller_bank_from_its_state(name: str, taken_before: int) -> None:
    whole = network(len(MEMBERS))
    parameters: list[Tensor] = list(whole.parameters())
    optimizer = BankOptimizer(whole, configs(name), 10)

    def advance(step: int) -> list[Tensor]:
        drawn = gradients(parameters, step)
        for parameter, gradient in zip(parameters, drawn, strict=True):
            give(parameter, gradient)
        optimizer.step(step)
        return drawn

    for step in range(taken_before):
        advance(step)
    single = network(1)
    with torch.no_grad():
        for parameter, weight in zip(single.parameters(), own(parameters, 2), strict=True):
            parameter.copy_(weight)
    smaller = BankOptimizer(single, configs(name)[2:], 10)
    smaller.load_state(0, optimizer.state(2))
    # Its state is its own from here on: the larger bank goes on first.
    drawn = [advance(step) for step in range(taken_before, taken_before + 5)]
    for step, gradient in enumerate(drawn, start=taken_before):
        for parameter, own_gradient in zip(single.parameters(), own(gradient, 2), strict=True):
            give(parameter, own_gradient)
        smaller.step(step)
    for parameter, weight in zip(single.parameters(), own(parameters, 2), strict=True):
        torch.testing.assert_close(parameter.detach(), weight, rtol=1e-12, atol=1e-12)


@EACH
def test_a_state_can_be_saved(name: str) -> None:
    optimizer = BankOptimizer(network(len(MEMBERS)), configs(name), 10)
    tensors = {
        f"{i}.{key}": tensor
        for i, moments in enumerate(optimizer.state(0))
        for key, tensor in moments.items()
    }
    # safetensors refuses tensors that share memory.
    assert load(save({key: tensor.contiguous() for key, tensor in tensors.items()})).keys() == (
        tensors.keys()
    )


def reference_step(config: TrainConfig, shapes: dict[str, tuple[int, ...]]) -> list[torch.Tensor]:
    """Take three steps with PyTorch's own class; return the weights."""
    numbers = torch.Generator().manual_seed(1)
    weights = [torch.randn(shape, generator=numbers) for shape in shapes.values()]
    parts = [[w for w in weights if w.dim() > 1], [w for w in weights if w.dim() <= 1]]
    decays = [config.weight_decay, config.weight_decay if config.norm_bias_decay else 0.0]
    groups: list[dict[str, Any]] = [
        {"params": part, "weight_decay": decay} for part, decay in zip(parts, decays, strict=True)
    ]
    lr = config.learning_rate
    if config.optimizer == "sgd":
        optimizer: torch.optim.Optimizer = torch.optim.SGD(
            groups, lr=lr, momentum=config.momentum, nesterov=config.nesterov
        )
    else:
        kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
        optimizer = kind(groups, lr=lr)
    for _ in range(3):
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=numbers)
        optimizer.step()
    return weights


SHAPES = {"weight": (3, 4), "bias": (3,), "kernel": (2, 1, 3, 3), "norm": (2,)}
STEPPING = [
    {"optimizer": "sgd", "nesterov": True},
    {"optimizer": "sgd", "nesterov": False},
    {"optimizer": "sgd", "nesterov": True, "norm_bias_decay": False, "weight_decay": 0.1},
    {"optimizer": "adamw", "norm_bias_decay": False, "weight_decay": 0.1},
    {"optimizer": "adam", "norm_bias_decay": False, "weight_decay": 0.1},
    {"optimizer": "adamw", "norm_bias_decay": False},
]


@pytest.mark.parametrize("changes", STEPPING, ids=str)
@pytest.mark.parametrize("neighbours", [[], [{}], [{"weight_decay": 0.5}, {"learning_rate": 1.0}]])
def test_nesterov_and_weights_that_do_not_decay_are_pytorchs_in_any_bank(
    changes: dict[str, Any], neighbours: list[dict[str, Any]]
) -> None:
    common = {"schedule": "constant", "learning_rate": 0.1, **changes}
    configs = [small(**common), *(small(**{**common, **other}) for other in neighbours)]
    members = len(configs)
    expected = reference_step(configs[0], SHAPES)
    numbers = torch.Generator().manual_seed(1)
    drawn = [torch.randn(shape, generator=numbers) for shape in SHAPES.values()]
    network = nn.ParameterList(torch.cat([w] * members) for w in drawn)
    optimizer = BankOptimizer(network, configs, 3)
    for step in range(3):
        for parameter, shape in zip(network, SHAPES.values(), strict=True):
            gradient = torch.cat([torch.randn(shape, generator=numbers)] * members)
            if parameter.grad is None:
                parameter.grad = gradient
            else:
                parameter.grad.copy_(gradient)
        optimizer.step(step)
    for parameter, theirs in zip(network, expected, strict=True):
        torch.testing.assert_close(parameter.detach()[: len(theirs)], theirs, rtol=1e-6, atol=1e-6)
