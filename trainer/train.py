"""The training loop: `train(configs, data) -> [Result]`, for a bank of K >= 1 members.

The loop does not know who watches nor why a member stops: after each epoch it hands the members'
figures to one callable, which names the members that leave.
"""

import math
import statistics
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer import device as devices
from trainer.augment import Augmentation
from trainer.config import TrainConfig
from trainer.data import ImageData, split
from trainer.errors import UserError
from trainer.layers import Dropout, by_member
from trainer.models import build, parameter_count
from trainer.optim import BankOptimizer
from trainer.results import Cost, Epoch, Result, State
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
        val_loss, val_accuracy = bank.validate()
        share = (time.perf_counter() - started) / len(alive)
        for k, member in enumerate(alive):
            rate = bank.learning_rate(k, epoch)
            figures = train_loss[k], train_accuracy[k], val_loss[k], val_accuracy[k], rate, share
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
        bank.optimizer.restore(k, own.optimizer)
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
        self.test: tuple[float, float] | None = None  # loss, accuracy
        self.seconds = 0.0  # of the test evaluation
        self.images_per_second = 0.0
        self.latency_ms: float | None = None
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
        fine = [e for e in self.history if math.isfinite(e.train_loss) and math.isfinite(e.val_loss)]
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
        return Result(
            outcome=self.outcome or "finished",
            history=tuple(self.history),
            best_epoch=self.best.epoch if self.best else None,
            val_accuracy=self.best.val_accuracy if self.best else None,
            val_loss=self.best.val_loss if self.best else None,
            test_accuracy=self.test[1] if self.test else None,
            test_loss=self.test[0] if self.test else None,
            parameters=self.parameters,
            seconds=sum(epoch.seconds for epoch in self.history) + self.seconds,
            images_per_second=self.images_per_second,
            device=devices.describe(bank.device),
            precision=bank.precision,
            bank=bank_size,
            latency_ms=self.latency_ms,
            state=self.state,
        )


def _test(members: Sequence[_Member], data: ImageData, device: torch.device) -> None:
    """Evaluate each finished member's best epoch on the test set: the only look at it."""
    ended = [m for m in members if m.outcome in ("finished", "early-stopped") and m.state]
    if not ended:
        return
    started = time.perf_counter()
    best = Bank([member.config for member in ended], data, device)
    for k, member in enumerate(ended):
        assert member.state is not None
        best.load_state(k, member.state)
    figures = list(zip(*best.test(), strict=True))
    share = (time.perf_counter() - started) / len(ended)
    for member, figure in zip(ended, figures, strict=True):
        member.test, member.seconds = figure, share
        member.latency_ms = Bank([member.config], data, device).latency_ms()


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
        for module in self.network.modules():
            if isinstance(module, Dropout):
                module.step = self.clock
        mean, std = data.normalisation
        self.scale, self.shift = 1 / std, -mean / std
        smoothing = [config.label_smoothing for config in configs]
        self.smoothing = (
            torch.tensor(smoothing, device=device, dtype=self.dtype) if any(smoothing) else None
        )

    @property
    def images_per_epoch(self) -> int:
        """Images that the whole bank trains on in an epoch."""
        return self.members * self.steps_per_epoch * self.batch_size

    def learning_rate(self, k: int, epoch: int) -> float:
        """Return the learning rate of member k in the last step of an epoch."""
        return float(self.optimizer.table[epoch * self.steps_per_epoch - 1, k])

    def train_epoch(self, epoch: int) -> tuple[list[float], list[float]]:
        """Train for one epoch (from 1); return loss and accuracy per member."""
        self.network.train()
        totals = torch.zeros(2, self.members, device=self.device, dtype=self.dtype)
        order = self.order(epoch)  # [steps, B, K]
        first = (epoch - 1) * self.steps_per_epoch
        for step in range(self.steps_per_epoch):
            totals += self.train_step(first + step, order[step])
        loss, accuracy = (totals / self.steps_per_epoch).tolist()
        return loss, accuracy

    def train_step(self, index: int, batch: Tensor) -> Tensor:
        """Take step `index` on the images `batch` [B, K]; return loss and accuracy, [2, K]."""
        self.clock.fill_(index)
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
        self.optimizer.step(index)
        with torch.no_grad():
            return torch.stack([losses, (logits.argmax(2) == labels).to(self.dtype).mean(0)])

    def validate(self) -> tuple[list[float], list[float]]:
        """Return loss and accuracy per member, each on its own validation images."""
        return self._evaluate(self.data.train_images, self.data.train_labels, self.val_indices)

    def test(self) -> tuple[list[float], list[float]]:
        """Return loss and accuracy per member on the test set."""
        labels = self.data.test_labels
        every = torch.arange(len(labels), device=self.device)[:, None].expand(-1, self.members)
        return self._evaluate(self.data.test_images, labels, every)

    def latency_ms(self, runs: int = 20) -> float:
        """Return the median milliseconds of one forward pass of one image per member.

        Timed after a few passes that prepare kernels; the weights do not matter.
        """
        self.network.eval()
        pixels = self.data.test_images[:1, None].expand(-1, self.members, -1)
        x = self._normalise(
            pixels.reshape(1, self.members, self.data.side, -1).to(self.dtype).mul_(1 / 255)
        )
        seconds = []
        with torch.inference_mode(), self._autocast():
            for _ in range(3 + runs):
                started = time.perf_counter()
                self.network(x)
                _synchronise(self.device)
                seconds.append(time.perf_counter() - started)
        return statistics.median(seconds[3:]) * 1000

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
        with torch.autocast(self.device.type, torch.bfloat16, enabled=enabled):
            yield

    def _evaluate(
        self, images: Tensor, labels: Tensor, indices: Tensor
    ) -> tuple[list[float], list[float]]:
        self.network.eval()
        loss = torch.zeros(self.members, device=self.device, dtype=self.dtype)
        right = torch.zeros(self.members, device=self.device, dtype=torch.int64)
        with torch.inference_mode(), self._autocast():
            for batch in torch.split(indices, EVALUATION_BATCH):  # [B, K]
                pixels = images[batch].view(*batch.shape, self.data.side, -1)
                x = self._normalise(pixels.to(self.dtype).mul_(1 / 255))
                logits = self.network(x).to(self.dtype)
                loss += len(batch) * _cross_entropy(logits, labels[batch], None)
                right += (logits.argmax(2) == labels[batch]).sum(0)
        size = len(indices)
        # Counted and divided once: an accuracy is a fraction of whole images.
        return (loss / size).tolist(), [count / size for count in right.tolist()]


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

    Evaluation counts as a third of a training step per image (forward only).

    Raises:
        UserError: the config cannot be trained on this data.
    """
    bank = Bank([config], data, torch.device(device))
    bank.network.train()
    seconds: list[float] = []
    for step, batch in enumerate(bank.order(1)[: steps + 2]):
        started = time.perf_counter()
        bank.train_step(step, batch)
        _synchronise(bank.device)
        seconds.append(time.perf_counter() - started)
        if sum(seconds[2:]) > 0.5:
            break
    per_step = statistics.median(seconds[2:] or seconds[-1:])  # the first ones prepare kernels
    evaluated = len(bank.val_indices) * config.epochs + len(data.test_labels)
    steps_in_all = bank.steps_per_epoch * config.epochs + evaluated / config.batch_size / 3
    return Cost(per_step * steps_in_all, bank.parameters)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
