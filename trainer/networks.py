"""K networks of one shape on one device, ready to answer: what training and evaluation share."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer import device as devices
from trainer.answers import answer
from trainer.config import TrainConfig, normalization_constants
from trainer.confusion import confusion
from trainer.data import ImageData
from trainer.layers import by_member
from trainer.models import build, parameter_count
from trainer.module_bank import ModuleBank
from trainer.progress import advance
from trainer.results import State

EVALUATION_BATCH = 256


@dataclass(frozen=True)
class Evaluation:
    """What a bank makes of some images."""

    loss: list[float]  # mean per member, K of them
    accuracy: list[float]
    predicted: Tensor  # classes, int64 [N, K]


class Networks:
    """K networks of one shape, their data and precision.

    Args:
        configs: of the members; all have the same `fusion_key`.
        data: the data set.
        device: where they compute; it becomes this process's current one.
        start: whether weights are drawn; False: they come from elsewhere (`load_state`).

    Raises:
        ValueError: the configs have different fusion keys.
        UserError: the images are too small, or pretrained weights are missing.
    """

    def __init__(
        self,
        configs: Sequence[TrainConfig],
        data: ImageData,
        device: torch.device,
        *,
        start: bool = True,
    ) -> None:
        devices.use(device)
        if len({config.fusion_key for config in configs}) != 1:
            raise ValueError("members of a bank need the same fusion key")
        self.configs, self.data, self.device = tuple(configs), data.to(device), device
        self.members = len(configs)
        self.precision = devices.precision(configs[0], device)
        self.dtype = torch.float64 if self.precision == "fp64" else torch.float32
        self.network = build(configs, *data.shape, start=start)
        self.network.to(device, self.dtype)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stub lacks it
        self.parameters = parameter_count(self.network, self.members)
        # Pixels in [0, 1] are multiplied and shifted, [K*C, 1, 1] each.
        constants = [normalization_constants(c.normalization, data.normalisation) for c in configs]
        factors = [[1 / std, -mean / std] for channels in constants for mean, std in channels]
        on_device = torch.tensor(factors, dtype=self.dtype).to(device)
        self.scale, self.shift = on_device[..., None, None].unbind(1)

    @classmethod
    def trained(
        cls, config: TrainConfig, state: State, data: ImageData, device: torch.device
    ) -> "Networks":
        """Return the one network that these weights are."""
        networks = cls([config], data, device, start=False)
        networks.load_state(0, state)
        return networks

    def test(self) -> Evaluation:
        """Evaluate every member on the test set."""
        labels = self.data.test_labels
        every = torch.arange(len(labels), device=self.device)[:, None].expand(-1, self.members)
        counts = Counts(every, self.dtype)
        self.evaluate(self.data.test_images, labels, every, counts)
        return counts.evaluation()

    def confusion(self, test: Evaluation, k: int = 0) -> list[list[int]]:
        """Count the test images of each class by what member k took them for."""
        return confusion(test.predicted[:, k], self.data.test_labels, len(self.data.classes))

    def logits(self, images: Tensor, indices: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield, batch by batch, indices [B, K] of images [N, C*H*W] and logits [B, K, classes]."""
        self.network.eval()
        for batch in torch.split(indices, EVALUATION_BATCH):
            with torch.inference_mode(), self.autocast():
                x = self.normalise(self.pixels(images, batch).to(self.dtype).mul_(1 / 255))
                logits = answer(self.network, x, flip=self.configs[0].test_time_flip)
            yield batch, logits
            advance()

    def pixels(self, images: Tensor, batch: Tensor) -> Tensor:
        """Pick each member's images of a batch [B, K]: [N, C*H*W] -> [B, K*C, H, W]."""
        side, channels = self.data.side, self.data.channels
        shape = len(batch), self.members * channels, side, side
        # Members do not always lie side by side in memory, and then their channels are moved.
        return images[batch].view(shape) if channels == 1 else images[batch].reshape(shape)

    def state(self, k: int) -> State:
        """Copy member k's weights and statistics to the CPU."""
        return {
            name: tensor.detach().to("cpu", copy=True) for name, tensor in self._member(k).items()
        }

    def load_state(self, k: int, state: State) -> None:
        """Take over a member's weights and statistics."""
        with torch.no_grad():
            for name, tensor in self._member(k).items():
                tensor.copy_(state[name])

    def _member(self, k: int) -> State:
        """View the tensors of member k by name."""
        if isinstance(self.network, ModuleBank):
            return self.network.member(k)
        return {
            name: by_member(tensor, self.members)[k]
            for name, tensor in self.network.state_dict(keep_vars=True).items()
            if tensor.dim()  # batch norm's step counter is not per member, and not used
        }

    def normalise(self, x: Tensor) -> Tensor:
        """Normalise pixels in [0, 1], in place where they lie so: [B, K*C, H, W], channels last."""
        x = x.mul_(self.scale).add_(self.shift)
        return x.contiguous(memory_format=torch.channels_last)

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Compute in the members' precision."""
        enabled = self.precision == "bf16"
        # Each weight is cast once a step: there is nothing to be cached.
        with torch.autocast(self.device.type, torch.bfloat16, enabled=enabled, cache_enabled=False):
            yield

    def evaluate(self, images: Tensor, labels: Tensor, indices: Tensor, counts: "Counts") -> None:
        """Count what the networks make of each member's images: `indices` [N, K] of `images`."""
        counts.loss.zero_()
        done = 0
        for batch, logits in self.logits(images, indices):
            counts.loss += len(batch) * cross_entropy(logits, labels[batch], None)
            counts.predicted[done : done + len(batch)] = logits.argmax(2)
            done += len(batch)
        counts.right.copy_((counts.predicted == labels[indices]).sum(0))


class Counts:
    """What an evaluation of images [N, K] counts, on the device."""

    def __init__(self, indices: Tensor, dtype: torch.dtype) -> None:
        self.loss = torch.zeros(indices.shape[1], device=indices.device, dtype=dtype)  # sums, [K]
        self.predicted = torch.zeros_like(indices)
        self.right = torch.zeros_like(indices[0])

    def evaluation(self) -> Evaluation:
        """Return the figures."""
        size = len(self.predicted)
        # Counted and divided once: an accuracy is a fraction of whole images.
        accuracy = [count / size for count in self.right.tolist()]
        return Evaluation((self.loss / size).tolist(), accuracy, self.predicted.clone())


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: Tensor | None) -> Tensor:
    """Mean cross entropy per member, [K], of logits [B, K, classes] and labels [B, K].

    With label smoothing (Szegedy et al., 2016), as in PyTorch: a share of the target is spread
    evenly over all classes.
    """
    log_p = F.log_softmax(logits, dim=2)
    each = F.nll_loss(log_p.flatten(0, 1), labels.flatten(), reduction="none")
    losses = each.view(labels.shape).mean(0)
    if smoothing is None:
        return losses
    return (1 - smoothing) * losses - smoothing * log_p.mean(2).mean(0)
