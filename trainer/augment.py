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
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.config import TrainConfig, augmentation_names
from trainer.streams import Stream, fractions

TRANSLATE = 10 / 28  # of the side, per axis
CROP = 3 / 28  # padding, of the side
ROTATE = math.radians(7)
ERASE_AREA = (0.02, 0.4)
LOG_ERASE_ASPECT = (math.log(0.3), math.log(3.3))
NOISE = 0.05  # standard deviation; pixels are in [0, 1] and stay there


class Augmentation:
    """Augment batches of a bank: uint8 [B, K*C, H, W] -> float [B, K*C, H, W] in [0, 1].

    What happens to an image is drawn first, as a few whole numbers (`places`), for as many steps at
    once as one likes; a step then only moves and blanks pixels.

    Args:
        configs: the K members.
        side: height and width, pixels.
        device: where the images are.
        dtype: of the result.
        channels: C, of an image; what is drawn for it moves and blanks them all alike.
    """

    def __init__(
        self,
        configs: Sequence[TrainConfig],
        side: int,
        device: torch.device,
        dtype: torch.dtype,
        channels: int = 1,
    ) -> None:
        self.side, self.channels = side, channels
        self.device, self.dtype = device, dtype
        names = [augmentation_names(config.augmentation) for config in configs]
        seeds = [config.seed for config in configs]
        # kind -> which members use it, [K]; kinds that no member uses are left out.
        self.uses = {
            kind: torch.tensor([kind in used for used in names], device=device)
            for kind in sorted({kind for used in names for kind in used})
        }
        self.streams = {kind: Stream(seeds, kind, device) for kind in self.uses}
        self.axis = torch.arange(side, dtype=torch.int32, device=device)
        self.moves = bool(self.uses.keys() & {"flip", "translate", "crop"})
        self.shifts = bool(self.uses.keys() & {"translate", "crop"})

    def __call__(self, images: Tensor, step: Tensor) -> Tensor:
        """Augment one batch; `step` (int32 []) selects the random numbers."""
        keys = {kind: stream.keys(step) for kind, stream in self.streams.items()}
        return self.apply(images, self.places(keys, len(images)), keys)

    @property
    def numbers(self) -> int:
        """How many whole numbers `places` draws for an image."""
        return 4 * self.moves + 4 * ("erase" in self.uses)

    def places(self, keys: Mapping[str, Tensor], rows: int) -> Tensor:
        """Draw where pixels come from and what is blanked.

        Args:
            keys: of each kind's stream, [..., K, 2], for one step or for many.
            rows: B, images of each step.

        Returns:
            int32 [..., B, K, P]. Of moves: in y and x the direction (1 or -1) and the offset of the
            source of a pixel; then of erasing: in y and x the first and the last blank pixel.
        """
        drawn = [*self._sources(keys, rows), *self._boxes(keys, rows)]
        if drawn:
            return torch.stack(drawn, dim=-1).to(torch.int32)
        some = next(iter(keys.values()), self.axis[:0])
        return torch.empty(0, dtype=torch.int32, device=some.device)

    def apply(self, images: Tensor, places: Tensor, keys: Mapping[str, Tensor]) -> Tensor:
        """Augment one batch [B, K*C, H, W] with what was drawn for it: [B, K, P], [K, 2] each."""
        if self.numbers:
            places = self._by_channel(places, 1)  # [B, K*C, P]
        if self.moves:
            images = self._move(images, places[..., 0:2], places[..., 2:4])
        x = images.to(self.dtype).mul_(1 / 255)
        if "rotate" in self.uses:
            x = self._rotate(x, keys)
        if "erase" in self.uses:
            x = self._erase(x, places[..., -4:-2], places[..., -2:])
        if "noise" in self.uses:
            x = self._noise(x, keys)
        return x

    def _by_channel(self, of_members: Tensor, dim: int) -> Tensor:
        """Repeat what each member has for its channels: K -> K*C along a dimension."""
        grey = self.channels == 1
        return of_members if grey else of_members.repeat_interleave(self.channels, dim)

    def _draw(self, kind: str, keys: Mapping[str, Tensor], rows: int, columns: int) -> Tensor:
        return fractions(self.streams[kind].numbers(keys[kind], rows, columns))  # [..., B, K, C]

    def _sources(self, keys: Mapping[str, Tensor], rows: int) -> list[Tensor]:
        if not self.moves:
            return []
        shifts: list[Tensor] = []  # [..., B, K, 2]: y, x
        for kind, reach in (("translate", TRANSLATE), ("crop", CROP)):
            if kind in self.uses:
                pixels = round(reach * self.side)
                u = self._draw(kind, keys, rows, 3)
                move = (u[..., :2] * (2 * pixels + 1)).to(torch.int64) - pixels
                shifts.append(
                    move * (self.uses[kind][:, None] & ((u[..., 2:] < 0.5) | (kind == "crop")))
                )
        if "flip" in self.uses:
            u = self._draw("flip", keys, rows, 1)[..., 0]
            flipped = ((u < 0.5) & self.uses["flip"]).to(torch.int64)
        else:
            flipped = torch.zeros_like(shifts[0][..., 0])
        y = x = torch.zeros_like(flipped)
        for shift in shifts:
            y, x = y + shift[..., 0], x + shift[..., 1]
        # A flipped pixel comes from side - 1 - (its place + x).
        return [torch.ones_like(y), 1 - 2 * flipped, y, x + flipped * (self.side - 1 - 2 * x)]

    def _move(self, images: Tensor, direction: Tensor, offset: Tensor) -> Tensor:
        places = self.axis * direction[..., None] + offset[..., None]  # [B, K*C, 2, side]
        source = places.clamp(0, self.side - 1)
        y, x = source.unbind(2)
        index = (y * self.side)[..., :, None] + x[..., None, :]  # [B, K*C, side, side]
        moved = images.flatten(2).gather(2, index.flatten(2).long()).view_as(images)
        if self.shifts:
            inside = source == places
            moved *= inside[:, :, 0, :, None] & inside[:, :, 1, None, :]
        return moved

    def _rotate(self, x: Tensor, keys: Mapping[str, Tensor]) -> Tensor:
        rows, channels, side = x.shape[0], x.shape[1], self.side
        drawn = self._by_channel(self._draw("rotate", keys, rows, 1), 1)  # [B, K*C, 1]
        angle = (drawn.flatten() * 2 - 1) * ROTATE
        zero = torch.zeros_like(angle)
        cos, sin = angle.cos(), angle.sin()
        theta = torch.stack([cos, -sin, zero, sin, cos, zero], dim=1).view(-1, 2, 3).to(x.dtype)
        grid = F.affine_grid(theta, [rows * channels, 1, side, side], align_corners=False)
        turned = F.grid_sample(x.reshape(-1, 1, side, side), grid, align_corners=False)
        # Members that do not rotate keep their exact pixels.
        return torch.where(self._users("rotate"), turned.view_as(x), x)

    def _users(self, kind: str) -> Tensor:
        """Which channels are of a member that uses this kind, [K*C, 1, 1]."""
        return self._by_channel(self.uses[kind], 0)[:, None, None]

    def _boxes(self, keys: Mapping[str, Tensor], rows: int) -> list[Tensor]:
        if "erase" not in self.uses:
            return []
        u = self._draw("erase", keys, rows, 5)  # [..., 5]: happens, area, aspect, top, left
        area = _between(*ERASE_AREA, u[..., 1]) * self.side**2
        aspect = _between(*LOG_ERASE_ASPECT, u[..., 2]).exp()
        size = torch.stack([(area * aspect).sqrt(), (area / aspect).sqrt()], dim=-1)
        size = size.round_().clamp_(1, self.side)  # [..., B, K, 2]
        first = (u[..., 3:] * (self.side - size + 1)).floor_()
        acts = ((u[..., 0] < 0.5) & self.uses["erase"])[..., None]
        # What is not erased has a box beyond the image.
        first = torch.where(acts, first, self.side)
        return [*first.unbind(-1), *(first + size - 1).unbind(-1)]

    def _erase(self, x: Tensor, first: Tensor, last: Tensor) -> Tensor:
        inside = (
            self.axis.clamp(first[..., None], last[..., None]) == self.axis
        )  # [B, K*C, 2, side]
        return x.masked_fill_(inside[:, :, 0, :, None] & inside[:, :, 1, None, :], 0.0)

    def _noise(self, x: Tensor, keys: Mapping[str, Tensor]) -> Tensor:
        rows, pixels = len(x), self.channels * self.side**2
        pairs = -(-pixels // 2)
        # Box and Muller (1958): two uniform numbers make two normal ones.
        radius, angle = self._draw("noise", keys, rows, 2 * pairs).split(pairs, dim=2)
        radius, angle = (-2 * torch.log1p(-radius)).sqrt(), angle * (2 * math.pi)
        normal = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=2)[..., :pixels]
        noisy = (x + NOISE * normal.to(x.dtype).view_as(x)).clamp_(0, 1)
        # Members without noise keep their exact pixels.
        return torch.where(self._users("noise"), noisy, x)


def _between(low: float, high: float, u: Tensor) -> Tensor:
    return low + (high - low) * u
