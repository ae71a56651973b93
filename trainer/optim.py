"""Optimisers with per-member hyperparameters, and learning-rate schedules as plain tables."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

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


_BETAS, _EPS = (0.9, 0.999), 1e-8  # PyTorch's defaults
_MOMENTS = {"sgd": ("momentum_buffer",), "adam": ("exp_avg", "exp_avg_sq")}
_MOMENTS["adamw"] = _MOMENTS["adam"]


class BankOptimizer:
    """PyTorch's own fused SGD, Adam or AdamW, once per member of a bank.

    A member has views of its slice of every parameter, so each member has its own learning rate,
    weight decay and momentum, while forward and backward run over the whole bank. The kernels are
    called without the classes around them: those copy channels-last tensors there and back, and
    with them a step of a small network takes three times as long.
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
        table = np.stack([learning_rates(config, steps) for config in configs], axis=1)
        self.table: Tensor = torch.from_numpy(table)  # [total steps, K]
        self.rates: Tensor | None = None  # [K]
        on_gpu = device.type == "cuda"
        if on_gpu if on_device is None else on_device:  # so that a step can be captured
            self.device_table = self.table.to(device, torch.float32)
            self.rates = self.device_table[0].clone()
        self.alone = len(configs) == 1
        if not self.alone:
            # The views of gradients are made once: what they look at must stay where it is.
            for parameter in self.parameters:
                parameter.grad = torch.zeros_like(parameter)
        self.members = [
            _Member(config, self.parameters, k, len(configs)) for k, config in enumerate(configs)
        ]

    def step(self, index: int | Tensor) -> None:
        """Take a step and clear the gradients.

        Args:
            index: which one, from 0, over the whole training; a tensor [] on the device keeps the
                host out of it.
        """
        rates: Sequence[float | Tensor]
        if self.rates is None:
            rates = self.table[int(index)].tolist()
        else:
            row = torch.as_tensor(index, device=self.rates.device).view(1)
            self.rates.copy_(self.device_table.index_select(0, row)[0])
            rates = self.rates.unbind()
        for member, rate in zip(self.members, rates, strict=True):
            member.step(rate)
        for parameter in self.parameters:
            if self.alone:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad.zero_()

    def state(self, k: int) -> list[dict[str, Tensor]]:
        """Copy member k's state (moments, step), one dict per parameter."""
        return self.members[k].state()

    def load_state(self, k: int, state: Sequence[Mapping[str, Tensor]]) -> None:
        """Take over a member's state, from another optimiser or from a file."""
        self.members[k].load_state(state)


class _Member:
    """The optimiser of one member: member k of so many that share the parameters."""

    def __init__(
        self, config: TrainConfig, parameters: Sequence[nn.Parameter], k: int, members: int
    ) -> None:
        self.config, self.parameters, self.k, self.members = config, parameters, k, members
        self.weights = [self._own(parameter.detach()) for parameter in parameters]
        # Those of a bank of one are new in every step.
        self.gradients = None if members == 1 else self._gradients()
        used = config.optimizer != "sgd" or config.momentum > 0
        self.moments = {
            name: [torch.zeros_like(weight) for weight in self.weights]
            for name in (_MOMENTS[config.optimizer] if used else ())
        }
        self.steps = torch.zeros((), device=self.weights[0].device)  # taken

    def _own(self, tensor: Tensor) -> Tensor:
        """View a parameter's slice in the order in which it lies in memory."""
        own = tensor if self.members == 1 else by_member(tensor, self.members)[self.k]
        return own.permute(0, 2, 3, 1) if own.dim() == 4 else own

    def _gradients(self) -> list[Tensor]:
        gradients = [parameter.grad for parameter in self.parameters]
        return [self._own(gradient) for gradient in gradients if gradient is not None]

    def step(self, rate: float | Tensor) -> None:
        """Take a step with this learning rate."""
        config = self.config
        gradients = self._gradients() if self.gradients is None else self.gradients
        options: dict[str, Any] = {
            "lr": rate,
            "weight_decay": config.weight_decay,
            "maximize": False,
        }
        if config.optimizer == "sgd":
            torch._fused_sgd_(
                self.weights,
                gradients,
                self.moments.get("momentum_buffer", []),
                momentum=config.momentum,
                dampening=0.0,
                nesterov=False,
                is_first_step=False,  # moments of zeros make the first step like all others
                **options,
            )
            return
        self.steps.add_(1)
        kernel = torch._fused_adamw_ if config.optimizer == "adamw" else torch._fused_adam_
        kernel(
            self.weights,
            gradients,
            self.moments["exp_avg"],
            self.moments["exp_avg_sq"],
            [],
            [self.steps] * len(self.weights),
            beta1=_BETAS[0],
            beta2=_BETAS[1],
            eps=_EPS,
            amsgrad=False,
            **options,
        )

    def state(self) -> list[dict[str, Tensor]]:
        """Copy the moments, in the shape of the parameters, and the number of steps."""
        counted = self.config.optimizer != "sgd"
        return [
            {name: _logical(own[i]).clone() for name, own in self.moments.items()}
            | ({"step": self.steps.clone()} if counted else {})  # no two share memory: files refuse
            for i in range(len(self.weights))
        ]

    def load_state(self, state: Sequence[Mapping[str, Tensor]]) -> None:
        """Take over what `state` gave."""
        for i, values in enumerate(state):
            for name, own in self.moments.items():
                _logical(own[i]).copy_(values[name])
            if "step" in values:
                self.steps.copy_(values["step"])


def _logical(tensor: Tensor) -> Tensor:
    """View a tensor in memory order as its parameter is shaped: [K, C, H, W]."""
    return tensor.permute(0, 3, 1, 2) if tensor.dim() == 4 else tensor
