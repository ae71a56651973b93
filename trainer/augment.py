"""Augmentations of whole batches, one random stream per member and kind.

Flips, translations and crops move pixels by whole steps: they compose into one gather of the raw
bytes. Rotation interpolates; erasing blanks a box; noise is added to every pixel. What a member
draws does not depend on what its neighbours in the bank do.

Probabilities and ranges are those of the reference projects: flip, erase and translate with
probability 0.5 (aralhekimoglu/FashionMNIST), crop (zero padding 3 of 28 pixels) and rotation (up to
7 degrees) always (serge-m/code-training). Distances scale with the image's side. Noise is a wish of
plscoggers/fashion-mnist without a figure: a twentieth of the pixels' range is ours.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.config import TrainConfig, augmentation_names
from trainer.streams import Stream

TRANSLATE = 10 / 28  # of the side, per axis
CROP = 3 / 28  # padding, of the side
ROTATE = math.radians(7)
ERASE_AREA = (0.02, 0.4)
LOG_ERASE_ASPECT = (math.log(0.3), math.log(3.3))
NOISE = 0.05  # standard deviation; pixels are in [0, 1] and stay there


class Augmentation:
    """Augment batches of a bank: uint8 [B, K, H, W] -> float [B, K, H, W] in [0, 1].

    Args:
        configs: the K members.
        side: height and width, pixels.
        device: where the images are.
        dtype: of the result.
    """

    def __init__(
        self, configs: Sequence[TrainConfig], side: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.side, self.device, self.dtype = side, device, dtype
        names = [augmentation_names(config.augmentation) for config in configs]
        seeds = [config.seed for config in configs]
        # kind -> which members use it, [K]; kinds that no member uses are left out.
        self.uses = {
            kind: torch.tensor([kind in own for own in names], device=device)
            for kind in sorted({kind for own in names for kind in own})
        }
        self.streams = {kind: Stream(seeds, kind, device) for kind in self.uses}
        self.axis = torch.arange(side, device=device)

    def __call__(self, images: Tensor, step: Tensor) -> Tensor:
        """Augment one batch; `step` (int32 []) selects the random numbers."""
        if self.uses.keys() & {"flip", "translate", "crop"}:
            images = self._move(images, step)
        x = images.to(self.dtype).mul_(1 / 255)
        if "rotate" in self.uses:
            x = self._rotate(x, step)
        if "erase" in self.uses:
            x = self._erase(x, step)
        if "noise" in self.uses:
            x = self._noise(x, step)
        return x

    def _draw(self, kind: str, step: Tensor, rows: int, columns: int) -> Tensor:
        return self.streams[kind].uniform(step, rows, columns)  # [B, K, columns]

    def _move(self, images: Tensor, step: Tensor) -> Tensor:
        rows, members, side = images.shape[0], images.shape[1], self.side
        shift = torch.zeros(rows, members, 2, dtype=torch.int64, device=self.device)  # y, x
        for kind, reach in (("translate", TRANSLATE), ("crop", CROP)):
            if kind in self.uses:
                pixels = round(reach * side)
                u = self._draw(kind, step, rows, 3)
                move = (u[..., :2] * (2 * pixels + 1)).to(torch.int64) - pixels
                acts = self.uses[kind][:, None] & ((u[..., 2:] < 0.5) | (kind == "crop"))
                shift += move * acts
        source = self.axis + shift[..., None]  # [B, K, 2, side]
        inside = (source >= 0) & (source < side)
        source = source.clamp_(0, side - 1)
        y, x = source.unbind(2)
        if "flip" in self.uses:
            u = self._draw("flip", step, rows, 1)
            x = torch.where((u < 0.5) & self.uses["flip"][:, None], side - 1 - x, x)
        index = y[..., :, None] * side + x[..., None, :]  # [B, K, side, side]
        moved = images.flatten(2).gather(2, index.flatten(2)).view_as(images)
        if self.uses.keys() & {"translate", "crop"}:
            moved *= inside[:, :, 0, :, None] & inside[:, :, 1, None, :]
        return moved

    def _rotate(self, x: Tensor, step: Tensor) -> Tensor:
        rows, members, side = x.shape[0], x.shape[1], self.side
        angle = (self._draw("rotate", step, rows, 1).flatten() * 2 - 1) * ROTATE  # [B*K]
        zero = torch.zeros_like(angle)
        cos, sin = angle.cos(), angle.sin()
        theta = torch.stack([cos, -sin, zero, sin, cos, zero], dim=1).view(-1, 2, 3).to(x.dtype)
        grid = F.affine_grid(theta, [rows * members, 1, side, side], align_corners=False)
        turned = F.grid_sample(x.reshape(-1, 1, side, side), grid, align_corners=False)
        # Members that do not rotate keep their exact pixels.
        return torch.where(self.uses["rotate"][:, None, None], turned.view_as(x), x)

    def _erase(self, x: Tensor, step: Tensor) -> Tensor:
        u = self._draw("erase", step, x.shape[0], 5)  # [B, K, 5]: happens, area, aspect, top, left
        area = _between(*ERASE_AREA, u[..., 1]) * self.side**2
        aspect = _between(*LOG_ERASE_ASPECT, u[..., 2]).exp()
        size = torch.stack([(area * aspect).sqrt(), (area / aspect).sqrt()], dim=-1)
        size = size.round_().clamp_(1, self.side)  # [B, K, 2]
        first = (u[..., 3:] * (self.side - size + 1)).floor_()
        inside = (self.axis >= first[..., None]) & (self.axis < (first + size)[..., None])
        box = inside[:, :, 0, :, None] & inside[:, :, 1, None, :]
        acts = (u[..., 0] < 0.5) & self.uses["erase"]
        return x.masked_fill_(box & acts[..., None, None], 0.0)

    def _noise(self, x: Tensor, step: Tensor) -> Tensor:
        rows, pixels = len(x), self.side**2
        pairs = -(-pixels // 2)
        # Box and Muller (1958): two uniform numbers make two normal ones.
        radius, angle = self._draw("noise", step, rows, 2 * pairs).split(pairs, dim=2)
        radius, angle = (-2 * torch.log1p(-radius)).sqrt(), angle * (2 * math.pi)
        normal = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=2)[..., :pixels]
        noisy = (x + NOISE * normal.to(x.dtype).view_as(x)).clamp_(0, 1)
        # Members without noise keep their exact pixels.
        return torch.where(self.uses["noise"][:, None, None], noisy, x)


def _between(low: float, high: float, u: Tensor) -> Tensor:
    return low + (high - low) * u
