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
    """PyTorch's own fused SGD, Adam or AdamW, with hyperparameters of each member's own.

    Members that share them (learning rates included) share a call of the kernel, over the whole
    tensors of the bank if all do; the others have views of their slices. The kernels are called
    without the classes around them: those copy channels-last tensors there and back, and with them
    a step of a small network takes three times as long.

    Args:
        network: of the bank, on its device already.
        configs: of its members.
        steps: per epoch.
        on_device: whether learning rates lie on the device and are read there, so that a step can
            be captured; by default on GPUs.
    """

    def __init__(
        self,
        network: nn.Module,
        configs: Sequence[TrainConfig],
        steps: int,
        *,
        on_device: bool | None = None,
    ) -> None:
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self.size = len(configs)
        self.optimizer = configs[0].optimizer
        device = self.parameters[0].device
        table = np.stack([learning_rates(config, steps) for config in configs], axis=1)
        self.table: Tensor = torch.from_numpy(table)  # [total steps, K]
        self.rates: Tensor | None = None  # [K]
        on_gpu = device.type != "cpu"
        if on_gpu if on_device is None else on_device:
            self.device_table = self.table.to(device, torch.float32)
            self.rates = self.device_table[0].clone()
        used = self.optimizer != "sgd" or any(config.momentum > 0 for config in configs)
        self.moments = {
            name: [torch.zeros_like(parameter.detach()) for parameter in self.parameters]
            for name in (_MOMENTS[self.optimizer] if used else ())
        }
        self.steps = torch.zeros((), device=device)  # taken, by all members alike
        alike: dict[tuple[Any, ...], list[int]] = {}
        for k, config in enumerate(configs):
            shared = (table[:, k].tobytes(), config.weight_decay, config.momentum)
            alike.setdefault(shared, []).append(k)
        self.alike = len(alike) == 1
        if not self.alike:
            # The views of gradients are made once: what they look at must stay where it is.
            for parameter in self.parameters:
                parameter.grad = torch.zeros_like(parameter)
        self.groups = [_Group(self, configs[group[0]], group) for group in alike.values()]

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
            torch.index_select(self.device_table, 0, row, out=self.rates[None])
            rates = self.rates.unbind()
        if self.optimizer != "sgd":
            self.steps.add_(1)
        for group in self.groups:
            group.step(rates[group.members[0]])
        if self.alike:
            for parameter in self.parameters:
                parameter.grad = None
        else:
            torch._foreach_zero_(_gradients(self.parameters))

    @property
    def form(self) -> tuple[object, ...]:
        """Who shares a call of the kernel, and what numbers these calls are given."""
        return tuple(
            (tuple(group.members), group.config.weight_decay, group.config.momentum)
            for group in self.groups
        )

    def tensors(self) -> list[Tensor]:
        """List what a step finds on the device: state and learning rates."""
        rates = [] if self.rates is None else [self.device_table]
        return [*(t for tensors in self.moments.values() for t in tensors), self.steps, *rates]

    def state(self, k: int) -> list[dict[str, Tensor]]:
        """Copy member k's state (moments, step), one dict per parameter."""
        return [
            {name: self._of(moments[i], k).clone() for name, moments in self.moments.items()}
            # No two share memory: files refuse that.
            | ({"step": self.steps.clone()} if self.optimizer != "sgd" else {})
            for i in range(len(self.parameters))
        ]

    def load_state(self, k: int, state: Sequence[Mapping[str, Tensor]]) -> None:
        """Take over a member's state, from another optimiser or from a file."""
        for i, values in enumerate(state):
            for name, moments in self.moments.items():
                if name in values:  # SGD without momentum has none
                    member = self._of(moments[i], k)
                    member.copy_(values[name].view_as(member))
            if "step" in values:
                self.steps.copy_(values["step"])

    def _of(self, tensor: Tensor, k: int) -> Tensor:
        return tensor if self.size == 1 else by_member(tensor, self.size)[k]

    def views(self, tensors: Sequence[Tensor], members: Sequence[int]) -> list[Tensor]:
        """View members' slices of the bank's tensors in the order in which they lie in memory."""
        if len(members) == self.size:
            return [_in_memory_order(tensor) for tensor in tensors]
        return [_in_memory_order(self._of(tensor, k)) for k in members for tensor in tensors]


class _Group:
    """Members of a bank whose learning rates and other hyperparameters are the same."""

    def __init__(self, bank: BankOptimizer, config: TrainConfig, members: Sequence[int]) -> None:
        self.config, self.members, self.parameters = config, members, bank.parameters
        self.weights = bank.views([parameter.detach() for parameter in bank.parameters], members)
        self.moments = {
            name: bank.views(tensors, members) for name, tensors in bank.moments.items()
        }
        self.steps = [bank.steps] * len(self.weights)
        # Where all are alike they are new in every step.
        self.gradients = None if bank.alike else bank.views(_gradients(bank.parameters), members)

    def step(self, rate: float | Tensor) -> None:
        """Take a step with this learning rate."""
        config, gradients = self.config, self.gradients
        if gradients is None:
            gradients = [_in_memory_order(gradient) for gradient in _gradients(self.parameters)]
        options: dict[str, Any] = {
            "lr": rate,
            "weight_decay": config.weight_decay,
            "maximize": False,
        }
        if config.optimizer == "sgd":
            torch._fused_sgd_(
                self.weights,
                gradients,
                self.moments["momentum_buffer"] if config.momentum > 0 else [],
                momentum=config.momentum,
                dampening=0.0,
                nesterov=False,
                is_first_step=False,  # moments of zeros make the first step like all others
                **options,
            )
            return
        kernel = torch._fused_adamw_ if config.optimizer == "adamw" else torch._fused_adam_
        kernel(
            self.weights,
            gradients,
            self.moments["exp_avg"],
            self.moments["exp_avg_sq"],
            [],
            self.steps,
            beta1=_BETAS[0],
            beta2=_BETAS[1],
            eps=_EPS,
            amsgrad=False,
            **options,
        )


def _gradients(parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """Return the gradient of every parameter: zeros where a step did not use it."""
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def _in_memory_order(tensor: Tensor) -> Tensor:
    """View weights [C, D, H, W] that lie channels last as [C, H, W, D]."""
    return tensor.permute(0, 2, 3, 1) if tensor.dim() == 4 else tensor
