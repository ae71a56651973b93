"""Optimisers with per-member hyperparameters, and learning-rate schedules as plain tables."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainer.config import TrainConfig
from trainer.layers import by_member


def learning_rates(config: TrainConfig, steps_per_epoch: int) -> NDArray[np.float64]:
    """Return the learning rate of every step, shape [epochs * steps_per_epoch].

    `step` and `exponential` change per epoch; `cosine` (to zero: Loshchilov and Hutter, SGDR,
    2017) and `one-cycle` (Smith and Topin, 2018; shape and constants of PyTorch's OneCycleLR: from
    1/25 to the maximum over 30 % of the steps, then to 1/250,000 of it) change per step.
    """
    total = config.epochs * steps_per_epoch
    step = np.arange(total)
    epoch = step // steps_per_epoch
    factor: NDArray[np.float64]
    if config.schedule == "constant":
        factor = np.ones(total)
    elif config.schedule == "step":
        factor = np.float64(config.step_factor) ** (epoch // config.step_epochs)
    elif config.schedule == "exponential":
        factor = np.float64(config.exponential_factor) ** epoch
    elif config.schedule == "cosine":
        factor = 0.5 * (1 + np.cos(math.pi * step / total))
    else:
        peak, last = 0.3 * total - 1, total - 1  # up to 3 steps: no rise, the peak is behind
        start, end = 1 / 25, 1 / 25 / 1e4
        up = 1 + (start - 1) * 0.5 * (1 + np.cos(math.pi * step / peak))
        down = end + (1 - end) * 0.5 * (1 + np.cos(math.pi * (step - peak) / (last - peak)))
        factor = np.where(step <= peak, up, down)
    return config.learning_rate * factor


class BankOptimizer:
    """PyTorch's own fused SGD, Adam or AdamW, with one parameter group per member.

    A group holds views of its member's slice of every parameter, so each member has its own
    learning rate, weight decay and momentum, while forward and backward run over the whole bank.
    """

    def __init__(
        self,
        network: nn.Module,
        configs: Sequence[TrainConfig],
        steps: int,
        *,
        on_device: bool | None = None,
    ) -> None:
        """Prepare for `steps` steps per epoch; the network is on its device already.

        `on_device`: learning rates lie on the device and are read there, by default on GPUs.
        """
        self.parameters = list(network.parameters())
        device = self.parameters[0].device
        self.members = len(configs)
        self.views = [_views(self.parameters, self.members, k) for k in range(self.members)]
        table = np.stack([learning_rates(config, steps) for config in configs], axis=1)
        self.table: Tensor = torch.from_numpy(table)  # [total steps, K]
        on_gpu = device.type == "cuda"
        self.rates: Tensor | None = None  # [K]
        if on_gpu if on_device is None else on_device:  # so that a step can be captured
            self.device_table = self.table.to(device, torch.float32)
            self.rates = self.device_table[0].clone()
        groups = [
            {
                "params": views,
                "lr": config.learning_rate if self.rates is None else self.rates[k],
                "weight_decay": config.weight_decay,
                **({"momentum": config.momentum} if config.optimizer == "sgd" else {}),
            }
            for k, (config, views) in enumerate(zip(configs, self.views, strict=True))
        ]
        name = configs[0].optimizer
        self.optimizer: torch.optim.Optimizer
        if name == "sgd":
            self.optimizer = torch.optim.SGD(groups, lr=0.0, fused=True)
        else:
            kind = torch.optim.AdamW if name == "adamw" else torch.optim.Adam
            self.optimizer = kind(groups, lr=0.0, fused=True, capturable=on_gpu)
            # PyTorch would warn that its steps are not captured; after a few they are.
            self.optimizer._warned_capturable_if_run_uncaptured = True
        if self.members > 1:
            # The views' gradients are views too: they must stay where they are.
            for parameter in self.parameters:
                parameter.grad = torch.zeros_like(parameter)
            grads = [parameter.grad for parameter in self.parameters]
            for k, views in enumerate(self.views):
                for view, grad in zip(views, grads, strict=True):
                    assert grad is not None
                    view.grad = by_member(grad, self.members)[k]

    def step(self, index: int | Tensor) -> None:
        """Take a step and clear the gradients.

        Args:
            index: which one, from 0, over the whole training; a tensor [] on the device keeps the
                host out of it.
        """
        if self.rates is None:
            rates = self.table[int(index)].tolist()
            for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
        else:
            row = torch.as_tensor(index, device=self.rates.device).view(1)
            self.rates.copy_(self.device_table.index_select(0, row)[0])  # the groups' rates
        self.optimizer.step()
        if self.members == 1:
            self.optimizer.zero_grad(set_to_none=True)
        else:
            for parameter in self.parameters:
                assert parameter.grad is not None
                parameter.grad.zero_()

    def state(self, k: int) -> list[dict[str, Tensor]]:
        """Copy member k's state (moments, step), one dict per parameter."""
        return [
            {name: tensor.clone() for name, tensor in self.optimizer.state[view].items()}
            for view in self.views[k]
        ]

    def load_state(self, k: int, state: list[dict[str, Tensor]]) -> None:
        """Take over member k's state from another optimiser."""
        for view, values in zip(self.views[k], state, strict=True):
            self.optimizer.state[view] = values

    def restore(self, k: int, state: Sequence[Mapping[str, Tensor]]) -> None:
        """Take over member k's state from a file: in the layout that its parameters have here."""
        for view, values in zip(self.views[k], state, strict=True):
            self.optimizer.state[view] = {
                name: torch.empty_like(view).copy_(tensor)
                if tensor.shape == view.shape
                else tensor.to(view.device)
                for name, tensor in values.items()
            }


def _views(parameters: Sequence[nn.Parameter], members: int, k: int) -> list[Tensor]:
    if members == 1:
        return list(parameters)
    return [by_member(parameter.detach(), members)[k] for parameter in parameters]
