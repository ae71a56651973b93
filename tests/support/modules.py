"""Networks as a user might write them, some of which cannot be one bank."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.config import TrainConfig


class Flat(nn.Module):
    """Logits of the pixels, by one layer."""

    def __init__(self, config: TrainConfig, side: int, classes: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(side * side, classes)
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        """Classify."""
        logits: Tensor = self.classifier(images.flatten(1))
        return logits


class Functional(Flat):
    """Drops by a function, attends by a function."""

    def forward(self, images: Tensor) -> Tensor:
        """Classify."""
        rows = F.dropout(images[:, 0], 0.2, self.training)
        p = 0.1 if self.training else 0.0
        rows = F.scaled_dot_product_attention(rows, rows, rows, dropout_p=p)
        return super().forward(rows)


class Branching(Flat):
    """Does another thing for other data."""

    def forward(self, images: Tensor) -> Tensor:
        """Classify."""
        return super().forward(images * 2 if images.mean() > 0 else images)


class Counting(Flat):
    """Has state in Python."""

    def forward(self, images: Tensor) -> Tensor:
        """Classify."""
        self.calls += 1
        return super().forward(images) / (1 + self.calls % 3)


class Noisy(Flat):
    """Draws from torch's global generator."""

    def forward(self, images: Tensor) -> Tensor:
        """Classify."""
        return super().forward(images + 0.1 * torch.randn_like(images))


class Scaled(Flat):
    """Has a parameter that is a number, one that is frozen and one that nobody uses."""

    def __init__(self, config: TrainConfig, side: int, classes: int) -> None:
        super().__init__(config, side, classes)
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.frozen = nn.Parameter(torch.ones(classes), requires_grad=False)
        self.idle = nn.Parameter(torch.ones(3))

    def forward(self, images: Tensor) -> Tensor:
        """Classify."""
        return super().forward(images) * self.scale * self.frozen


class Leaving(Flat):
    """Ends the program."""

    def forward(self, images: Tensor) -> Tensor:
        """Classify."""
        raise SystemExit("no more")


def not_a_module(config: TrainConfig) -> str:
    """Return something else."""
    return "network"


def raising(config: TrainConfig) -> nn.Module:
    """Fail."""
    raise ValueError("no such\nwidth")


def leaving(config: TrainConfig) -> nn.Module:
    """End the program."""
    raise SystemExit(3)


def of_seven_classes(config: TrainConfig, side: int) -> nn.Module:
    """Return logits of another shape."""
    return nn.Sequential(nn.Flatten(), nn.Linear(side * side, 7))
