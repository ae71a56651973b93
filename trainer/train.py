"""The training loop: `train(configs, data) -> [Result]`, for a bank of K >= 1 members.

The loop does not know who watches nor why a member stops: after each epoch it hands the members'
figures to one callable, which names the members that leave.
"""

import math
import statistics
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer import checkpoint, latency
from trainer import device as devices
from trainer.augment import Augmentation
from trainer.config import TrainConfig, normalization_constants
from trainer.confusion import confused, confusion
from trainer.cuda_graph import WARM_UP, Program
from trainer.data import ImageData, split
from trainer.errors import UserError
from trainer.layers import Dropout, by_member
from trainer.models import build, describe, parameter_count
from trainer.optim import BankOptimizer
from trainer.results import Cost, Epoch, Inference, Result, State
from trainer.resume import ResumePoints, Standing
from trainer.streams import generator

EVALUATION_BATCH = 256


Watch = Callable[[Mapping[int, Epoch]], Collection[int]]


def train(
    configs: Sequence[TrainConfig],
    data: ImageData,
    *,
    on_epoch: Watch | None = None,
    device: torch.device | str = "cpu",
    resume: ResumePoints | None = None,
) -> list[Result]:
    """Train a bank of members and return their results, in the order of `configs`.

    Args:
        configs: K >= 1 configs with the same `fusion_key`.
        data: the data set; every member gets its own split of it.
        on_epoch: called after each epoch with {position in `configs`: Epoch} of the members
            still in training; returns the positions of those that stop here.
        device: where to train.
        resume: where a long training leaves its course now and then, and where it goes on from:
            the epochs that there are already are handed to `on_epoch` again, first of all.

    Raises:
        UserError: the configs cannot be trained on this data.
        ValueError: the configs cannot be fused.
    """
    members = [_Member(position, config) for position, config in enumerate(configs)]
    bank = Bank(configs, data, torch.device(device))
    alive = members
    done = 0
    if resume is not None and (found := resume.read([config.to_dict() for config in configs])):
        done = _go_on(members, found, bank.parameters, on_epoch)
        alive = [member for member in members if member.outcome is None]
        if alive:
            bank = _bank_of(alive, [found[member.position] for member in alive], bank)
    for epoch in range(done + 1, configs[0].epochs + 1 if alive else 0):
        started = time.perf_counter()
        train_loss, train_accuracy = bank.train_epoch(epoch)
        trained = time.perf_counter() - started
        validated = bank.validate()
        share = (time.perf_counter() - started) / len(alive)
        for k, member in enumerate(alive):
            rate = bank.learning_rate(k, epoch)
            validation = validated.loss[k], validated.accuracy[k]
            figures = train_loss[k], train_accuracy[k], *validation, rate, share
            member.record(Epoch(epoch, *figures), bank, k, trained)
        stopped = on_epoch({m.position: m.history[-1] for m in alive}) if on_epoch else ()
        staying = []
        for k, member in enumerate(alive):
            if member.outcome is None and member.position in stopped:
                member.outcome = "stopped"
            if member.outcome is None:
                staying.append(k)
        if len(staying) < len(alive):
            alive = [alive[k] for k in staying]
            if not alive:
                break
            bank = bank.keep(staying)
        if resume is not None and resume.due and epoch < configs[0].epochs:
            resume.write([config.to_dict() for config in configs], _standings(members, alive, bank))
    for member in members:
        member.outcome = member.outcome or "finished"
    _test(members, bank.data, bank.device)
    return [member.result(len(configs), bank) for member in members]


@dataclass(frozen=True)
class Evaluation:
    """What a bank makes of some images."""

    loss: list[float]  # mean per member, K of them
    accuracy: list[float]
    predicted: Tensor  # classes, int64 [N, K]


def _go_on(
    members: "Sequence[_Member]", found: Sequence[Standing], parameters: int, on_epoch: Watch | None
) -> int:
    """Give the members the courses that were found; return how many epochs they have."""
    for member, own in zip(members, found, strict=True):
        member.go_on(own, parameters)
    epochs = max(len(own.history) for own in found)
    for epoch in range(1, epochs + 1):
        told = {m.position: m.history[epoch - 1] for m in members if len(m.history) >= epoch}
        for position in on_epoch(told) if on_epoch and told else ():
            members[position].stop_after(epoch)
    return epochs


def _bank_of(alive: "Sequence[_Member]", found: Sequence[Standing], bank: "Bank") -> "Bank":
    """Return a bank of the members in training, where they stand."""
    if len(alive) < bank.members:
        bank = Bank([member.config for member in alive], bank.data, bank.device)
    for k, own in enumerate(found):
        assert own.weights is not None
        assert own.optimizer is not None
        bank.load_state(k, own.weights)
        bank.optimizer.load_state(k, own.optimizer)
    return bank


def _standings(
    members: "Sequence[_Member]", alive: "Sequence[_Member]", bank: "Bank"
) -> list[Standing]:
    """Return where all members stand; `alive` are those in the bank, in its order."""
    places = {member.position: k for k, member in enumerate(alive)}
    return [
        Standing(
            tuple(member.history),
            member.outcome,
            member.images_per_second,
            member.state,
            None if k is None else bank.state(k),
            None if k is None else bank.optimizer.state(k),
        )
        for member in members
        for k in [places.get(member.position)]
    ]


class _Member:
    """One member's course through the training."""

    def __init__(self, position: int, config: TrainConfig) -> None:
        self.position, self.config = position, config
        self.history: list[Epoch] = []
        self.best: Epoch | None = None
        self.state: State | None = None
        self.outcome: str | None = None  # None: still in training
        self.test: Evaluation | None = None
        self.confused: list[dict[str, Any]] | None = None
        self.seconds = 0.0  # of the test evaluation
        self.images_per_second = 0.0
        self.inference: Inference | None = None
        self.parameters = 0

    def record(self, epoch: Epoch, bank: "Bank", k: int, trained: float) -> None:
        """Take in one epoch of this member, which is the bank's k-th now."""
        self.history.append(epoch)
        self.parameters = bank.parameters
        self.images_per_second = bank.images_per_epoch / max(trained, 1e-9)
        if not (math.isfinite(epoch.train_loss) and math.isfinite(epoch.val_loss)):
            self.outcome = "diverged"
            return
        if self.best is None or epoch.val_accuracy > self.best.val_accuracy:
            self.best, self.state = epoch, bank.state(k)
        if self._epochs_without_improvement() >= self.config.patience:
            self.outcome = "early-stopped"

    def go_on(self, found: Standing, parameters: int) -> None:
        """Take a course that was found."""
        self.history = list(found.history)
        self.best, self.state = self._best(), found.best
        self.outcome, self.parameters = found.outcome, parameters
        self.images_per_second = found.images_per_second

    def stop_after(self, epoch: int) -> None:
        """Stop as of an epoch of the past; who has stopped needs no weights."""
        self.history = self.history[:epoch]
        self.best, self.state = self._best(), None
        self.outcome = "stopped"

    def _best(self) -> Epoch | None:
        fine = [
            e for e in self.history if math.isfinite(e.train_loss) and math.isfinite(e.val_loss)
        ]
        return max(fine, key=lambda epoch: epoch.val_accuracy, default=None)

    def _epochs_without_improvement(self) -> int:
        if self.config.early_stopping == "none":
            return 0
        if self.config.early_stopping == "val_loss":
            best = min(self.history, key=lambda epoch: epoch.val_loss)
        else:
            best = max(self.history, key=lambda epoch: epoch.val_accuracy)
        return self.history[-1].epoch - best.epoch

    def result(self, bank_size: int, bank: "Bank") -> Result:
        """Sum the course up."""
        test, inference = self.test, self.inference
        return Result(
            outcome=self.outcome or "finished",
            history=tuple(self.history),
            best_epoch=self.best.epoch if self.best else None,
            val_accuracy=self.best.val_accuracy if self.best else None,
            val_loss=self.best.val_loss if self.best else None,
            test_accuracy=test.accuracy[0] if test else None,
            test_loss=test.loss[0] if test else None,
            parameters=self.parameters,
            seconds=sum(epoch.seconds for epoch in self.history) + self.seconds,
            images_per_second=self.images_per_second,
            device=devices.describe(bank.device),
            precision=bank.precision,
            bank=bank_size,
            latency_ms=inference[bank.device.type]["1"]["p50_ms"] if inference else None,
            inference=inference,
            multiply_adds=describe(
                self.config, bank.data.side, len(bank.data.classes)
            ).multiply_adds,
            model_bytes=checkpoint.size(self.state) if self.state else None,
            weights_sha256=checkpoint.sha256(self.state) if self.state and test else None,
            confusion={"test": bank.confusion(test)} if test else None,
            confused=self.confused,
            state=self.state,
        )


def _test(members: Sequence[_Member], data: ImageData, device: torch.device) -> None:
    """Evaluate each finished member's best epoch on the test set: the only look at it.

    Each in a network of its own, as its weights will be used: to the last image the figures are
    those that the written weights give, whoever the neighbours were.
    """
    inference: Inference | None = None
    for member in members:
        if member.outcome not in ("finished", "early-stopped") or member.state is None:
            continue
        started = time.perf_counter()
        alone = Bank.trained(member.config, member.state, data, device)
        member.test = alone.test()
        member.confused = confused(alone, member.test)
        member.seconds = time.perf_counter() - started
        # Members of a bank are networks of one shape, which is all that their speed depends on.
        inference = inference or latency.inference(alone.network, member.config, data.side, device)
        member.inference = inference


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


def measure(
    config: TrainConfig, data: ImageData, device: torch.device | str = "cpu", *, steps: int = 10
) -> Cost:
    """Estimate what training this config costs: the median of a few steps, half a second at most.

    A step of a very large network on a CPU takes many seconds; then the first one is enough.

    Evaluation counts as a third of a training step per image (forward only).

    Raises:
        UserError: the config cannot be trained on this data.
    """
    bank = Bank([config], data, torch.device(device))
    bank.begin_epoch(1)
    seconds: list[float] = []
    # The first ones prepare kernels; on a GPU they are captured then.
    first = 2 if bank.device.type == "cpu" else WARM_UP + 2
    for _ in range(min(steps + first, bank.steps_per_epoch)):
        started = time.perf_counter()
        bank.next_step()
        devices.synchronise(bank.device)
        seconds.append(time.perf_counter() - started)
        if sum(seconds[first:]) > 0.5 or sum(seconds) > 10:
            break
    per_step = statistics.median(seconds[first:] or seconds[-1:])
    evaluated = len(bank.val_indices) * config.epochs + len(data.test_labels)
    steps_in_all = bank.steps_per_epoch * config.epochs + evaluated / config.batch_size / 3
    return Cost(per_step * steps_in_all, bank.parameters)
