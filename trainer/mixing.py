"""Images of a batch mixed with others of it, and their labels with them: mixup and CutMix.

Mixup (Zhang et al., 2018) adds two images with weights w and 1 - w; CutMix (Yun et al., 2019) puts
a box of one into the other. The loss is weighted as the pixels are. w is of Beta(alpha, alpha), one
for a step; the partners are the batch in reverse order, which is random anyway. A member that has
both takes one of them in each step, at even odds.

What a member draws is a function of (seed, epoch) alone, as the order of its images is.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.config import TrainConfig
from trainer.streams import derive


class Mixing:
    """Mixes the batches of a bank.

    Args:
        configs: the K members, of which at least one mixes.
        side: height and width of the images, pixels.
        steps: of an epoch.
        device, dtype: of the images.
    """

    def __init__(
        self,
        configs: Sequence[TrainConfig],
        side: int,
        steps: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.configs, self.side, self.dtype = configs, side, dtype
        # Weights of an image's own pixels and label; the other's box: y, x, y and x after it.
        self.table = torch.zeros((steps, len(configs), 6), device=device, dtype=dtype)
        self.row = self.table[0].clone()  # of the step, [K, 6]
        self.axis = torch.arange(side, device=device, dtype=dtype)

    def draw(self, epoch: int) -> None:
        """Draw what the steps of an epoch (from 1) are mixed with."""
        drawn = [_drawn(config, epoch, self.side, len(self.table)) for config in self.configs]
        self.table.copy_(torch.from_numpy(np.stack(drawn, axis=1)))

    def select(self, position: Tensor) -> None:
        """Turn to a step of the epoch: its number from 0, [1]."""
        torch.index_select(self.table, 0, position, out=self.row[None])

    def images(self, x: Tensor) -> Tensor:
        """Mix pixels [B, K*C, H, W] as the step's row says."""
        pixels, _, top, left, bottom, right = self.row[:, :, None].unbind(1)  # [K, 1] each
        rows = (self.axis >= top) & (self.axis < bottom)  # [K, side]
        columns = (self.axis >= left) & (self.axis < right)
        inside = rows[:, :, None] & columns[:, None, :]  # [K, side, side]
        weight = torch.where(inside, 0.0, pixels[..., None])
        channels = x.shape[1] // len(weight)
        weight = weight[:, None].expand(-1, channels, -1, -1).flatten(0, 1)  # [K*C, side, side]
        return x * weight + x.flip(0) * (1 - weight)

    def weighted(self, figure: Callable[[Tensor], Tensor], labels: Tensor) -> Tensor:
        """Weigh a figure, [K], of the images' own labels [B, K] and of their partners'."""
        share = self.row[:, 1]
        return share * figure(labels) + (1 - share) * figure(labels.flip(0))


def _drawn(config: TrainConfig, epoch: int, side: int, steps: int) -> NDArray[np.float64]:
    """Draw a member's rows of an epoch, [steps, 6]."""
    rows = np.zeros((steps, 6))
    rows[:, :2] = 1.0  # nothing is mixed
    numbers = np.random.default_rng(derive(config.seed, "mix", epoch))
    coin = numbers.random(steps) < 0.5
    if config.mixup:
        mixes = coin | (config.cutmix == 0)
        weight = numbers.beta(config.mixup, config.mixup, steps)
        rows[mixes, :2] = weight[mixes, None]
    if config.cutmix:
        cuts = ~coin | (config.mixup == 0)
        rows[cuts, 1:] = _cuts(numbers, config.cutmix, side, steps)[cuts]
    return rows


def _cuts(numbers: np.random.Generator, alpha: float, side: int, steps: int) -> NDArray[np.float64]:
    """Draw boxes, cut at the image's edges: the share outside, then the edges, [steps, 5]."""
    half = side * np.sqrt(1 - numbers.beta(alpha, alpha, steps))[:, None] / 2
    centre = numbers.integers(0, side, (steps, 2))
    first = np.clip(np.round(centre - half), 0, side)
    after = np.clip(np.round(centre + half), 0, side)
    share = 1 - np.prod(after - first, axis=1) / side**2
    return np.concatenate([share[:, None], first, after], axis=1)
