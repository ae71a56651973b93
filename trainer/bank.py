"""A bank: K >= 1 networks of one shape in training on one device, by the same operations.

Everything that a step needs is found on the device, so that a step can be captured and replayed
(`trainer.cuda_graph`); sums stay there, and the host waits for them once an epoch.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer import device as devices
from trainer.augment import Augmentation
from trainer.config import TrainConfig, normalization_constants
from trainer.confusion import confusion
from trainer.cuda_graph import Program
from trainer.data import ImageData, split
from trainer.errors import UserError
from trainer.layers import Dropout, by_member
from trainer.models import build, parameter_count
from trainer.optim import BankOptimizer
from trainer.results import State
from trainer.streams import generator

EVALUATION_BATCH = 256


@dataclass(frozen=True)
class Evaluation:
    """What a bank makes of some images."""

    loss: list[float]  # mean per member, K of them
    accuracy: list[float]
    predicted: Tensor  # classes, int64 [N, K]


class Bank:
    """K members in training on one device: network, optimiser, data and random streams.

    Raises:
        ValueError: the configs have different fusion keys.
        UserError: batch size or subset do not fit the data.
    """

    def __init__(
        self, configs: Sequence[TrainConfig], data: ImageData, device: torch.device
    ) -> None:
        if len({config.fusion_key for config in configs}) != 1:
            raise ValueError("members of a bank need the same fusion key")
        first = configs[0]
        data = data.to(device)
        self.configs, self.data, self.device = tuple(configs), data, device
        self.members = len(configs)
        self.precision = devices.precision(first, device)
        self.dtype = torch.float64 if self.precision == "fp64" else torch.float32
        parts = [split(data, config) for config in configs]
        self.train_indices = torch.stack([part[0] for part in parts], dim=1)  # [N, K]
        self.val_indices = torch.stack([part[1] for part in parts], dim=1).to(device)
        self.batch_size = first.batch_size
        # The remainder of an epoch's permutation is left out: another one every epoch.
        self.steps_per_epoch = len(self.train_indices) // self.batch_size
        if self.steps_per_epoch == 0:
            raise UserError(
                f"batch_size = {self.batch_size}: larger than the {len(self.train_indices)} "
                "training images"
            )
        self.network = build(configs, data.side, len(data.classes)).to(device, self.dtype)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stub lacks it
        self.parameters = parameter_count(self.network, self.members)
        self.optimizer = BankOptimizer(self.network, configs, self.steps_per_epoch)
        self.augmentation = Augmentation(configs, data.side, device, self.dtype)
        self.clock = torch.zeros((), dtype=torch.int32, device=device)  # steps taken
        # An epoch's batches, the next one's position, sums of loss and accuracy.
        shape = (self.steps_per_epoch, self.batch_size, self.members)
        self.batches = torch.zeros(shape, dtype=torch.int64, device=device)
        self.position = torch.zeros(1, dtype=torch.int64, device=device)
        self.totals = torch.zeros(2, self.members, device=device, dtype=self.dtype)
        self.validated = _Counts(self.val_indices, self.dtype)
        self.next_step = Program(self._next_step, device)
        self.next_validation = Program(self._next_validation, device)
        for module in self.network.modules():
            if isinstance(module, Dropout):
                module.step = self.clock
        # Pixels in [0, 1] are multiplied and shifted, [K, 1, 1] each.
        constants = [normalization_constants(c.normalization, data.normalisation) for c in configs]
        own = torch.tensor([[1 / std, -mean / std] for mean, std in constants], dtype=self.dtype)
        self.scale, self.shift = own.to(device)[..., None, None].unbind(1)
        smoothing = [config.label_smoothing for config in configs]
        self.smoothing = (
            torch.tensor(smoothing, device=device, dtype=self.dtype) if any(smoothing) else None
        )

    @classmethod
    def trained(
        cls, config: TrainConfig, state: State, data: ImageData, device: torch.device
    ) -> "Bank":
        """Return the bank of one member that these weights are."""
        bank = cls([config.replace(pretrained=False)], data, device)  # not to be read in vain
        bank.load_state(0, state)
        return bank

    @property
    def images_per_epoch(self) -> int:
        """Images that the whole bank trains on in an epoch."""
        return self.members * self.steps_per_epoch * self.batch_size

    def learning_rate(self, k: int, epoch: int) -> float:
        """Return the learning rate of member k in the last step of an epoch."""
        return float(self.optimizer.table[epoch * self.steps_per_epoch - 1, k])

    def train_epoch(self, epoch: int) -> tuple[list[float], list[float]]:
        """Train for one epoch (from 1); return loss and accuracy per member."""
        self.begin_epoch(epoch)
        for _ in range(self.steps_per_epoch):
            self.next_step()
        loss, accuracy = (self.totals / self.steps_per_epoch).tolist()
        return loss, accuracy

    def begin_epoch(self, epoch: int) -> None:
        """Get ready for the steps of an epoch (from 1)."""
        self.network.train()
        self.batches.copy_(self.order(epoch))
        self.clock.fill_((epoch - 1) * self.steps_per_epoch)
        self.position.zero_()
        self.totals.zero_()

    def _next_step(self) -> None:
        """Take the step that the clock shows. Nothing here comes from the host: see `Program`."""
        batch = self.batches.index_select(0, self.position)[0]
        self.totals += self._step(batch)
        self.position += 1
        self.clock += 1

    def train_step(self, index: int, batch: Tensor) -> Tensor:
        """Take step `index` on the images `batch` [B, K]; return loss and accuracy, [2, K]."""
        self.clock.fill_(index)
        return self._step(batch)

    def _step(self, batch: Tensor) -> Tensor:
        labels = self.data.train_labels[batch]  # [B, K]
        images = self.data.train_images[batch].view(
            *batch.shape, self.data.side, -1
        )  # [B, K, H, W]
        x = self._normalise(self.augmentation(images, self.clock))
        with self._autocast():
            logits = self.network(x)
        logits = logits.to(self.dtype)
        losses = _cross_entropy(logits, labels, self.smoothing)
        losses.sum().backward()
        self.optimizer.step(self.clock)
        with torch.no_grad():
            return torch.stack([losses, (logits.argmax(2) == labels).to(self.dtype).mean(0)])

    def validate(self) -> Evaluation:
        """Evaluate each member on its own validation images."""
        self.network.eval()
        self.next_validation()
        return self.validated.evaluation()

    def _next_validation(self) -> None:
        data = self.data
        self._evaluate(data.train_images, data.train_labels, self.val_indices, self.validated)

    def test(self) -> Evaluation:
        """Evaluate every member on the test set."""
        labels = self.data.test_labels
        every = torch.arange(len(labels), device=self.device)[:, None].expand(-1, self.members)
        counts = _Counts(every, self.dtype)
        self._evaluate(self.data.test_images, labels, every, counts)
        return counts.evaluation()

    def confusion(self, test: Evaluation, k: int = 0) -> list[list[int]]:
        """Count the test images of each class by what member k took them for."""
        return confusion(test.predicted[:, k], self.data.test_labels, len(self.data.classes))

    def logits(self, images: Tensor, indices: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield, batch by batch, indices [B, K] of images [N, H*W] and their logits [B, K, C]."""
        self.network.eval()
        for batch in torch.split(indices, EVALUATION_BATCH):
            with torch.inference_mode(), self._autocast():
                pixels = images[batch].view(*batch.shape, self.data.side, -1)
                x = self._normalise(pixels.to(self.dtype).mul_(1 / 255))
                logits = self.network(x).to(self.dtype)
            yield batch, logits

    def state(self, k: int) -> State:
        """Copy member k's weights and statistics to the CPU."""
        return {
            name: by_member(tensor, self.members)[k].detach().to("cpu", copy=True)
            for name, tensor in self._tensors()
        }

    def load_state(self, k: int, state: State) -> None:
        """Take over a member's weights and statistics."""
        with torch.no_grad():
            for name, tensor in self._tensors():
                by_member(tensor, self.members)[k].copy_(state[name])

    def keep(self, positions: Sequence[int]) -> "Bank":
        """Return a bank of some of the members, going on where they are."""
        smaller = Bank([self.configs[k] for k in positions], self.data, self.device)
        for new, old in enumerate(positions):
            smaller.load_state(new, self.state(old))
            smaller.optimizer.load_state(new, self.optimizer.state(old))
        return smaller

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in self.network.state_dict(keep_vars=True).items():
            if tensor.dim():  # batch norm's step counter is not per member, and not used
                yield name, tensor

    def order(self, epoch: int) -> Tensor:
        """Return every member's order of its training images, [steps, B, K]: f(seed, epoch)."""
        size = len(self.train_indices)
        used = self.steps_per_epoch * self.batch_size
        columns = [
            self.train_indices[:, k][
                torch.randperm(size, generator=generator(config.seed, "order", epoch))[:used]
            ]
            for k, config in enumerate(self.configs)
        ]
        order = torch.stack(columns, dim=1).to(self.device)
        return order.view(self.steps_per_epoch, self.batch_size, self.members)

    def _normalise(self, x: Tensor) -> Tensor:
        x = x.mul_(self.scale).add_(self.shift)
        return x.contiguous(memory_format=torch.channels_last)

    @contextmanager
    def _autocast(self) -> Iterator[None]:
        enabled = self.precision == "bf16"
        # Each weight is cast once a step: there is nothing to be cached.
        with torch.autocast(self.device.type, torch.bfloat16, enabled=enabled, cache_enabled=False):
            yield

    def _evaluate(self, images: Tensor, labels: Tensor, indices: Tensor, counts: "_Counts") -> None:
        counts.loss.zero_()
        done = 0
        for batch, logits in self.logits(images, indices):
            counts.loss += len(batch) * _cross_entropy(logits, labels[batch], None)
            counts.predicted[done : done + len(batch)] = logits.argmax(2)
            done += len(batch)
        counts.right.copy_((counts.predicted == labels[indices]).sum(0))


class _Counts:
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


def _cross_entropy(logits: Tensor, labels: Tensor, smoothing: Tensor | None) -> Tensor:
    """Mean cross entropy per member, [K], of logits [B, K, classes] and labels [B, K].

    With label smoothing (Szegedy et al., 2016), as in PyTorch: a share of the target is spread
    evenly over all classes.
    """
    log_p = F.log_softmax(logits, dim=2)
    losses = -log_p.gather(2, labels[..., None])[..., 0].mean(0)
    if smoothing is None:
        return losses
    return (1 - smoothing) * losses - smoothing * log_p.mean(2).mean(0)
