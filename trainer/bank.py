"""A bank: K >= 1 networks of one shape in training on one device, by the same operations.

Everything that a step needs is found on the device, so that a step can be captured and replayed
(`trainer.cuda_graph`); sums stay there, and the host waits for them once an epoch.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from trainer.augment import Augmentation
from trainer.averaging import Averages
from trainer.config import TrainConfig
from trainer.cuda_graph import Pace, Program
from trainer.data import ImageData, split
from trainer.errors import UserError
from trainer.layers import Dropout
from trainer.mixing import Mixing
from trainer.module_bank import ModuleBank
from trainer.networks import Counts, Evaluation, Networks, cross_entropy
from trainer.optim import BankOptimizer
from trainer.results import State
from trainer.streams import generator


class Bank(Networks):
    """K networks in training: with optimiser, order of the images and random streams.

    Args:
        configs, data, device, start: as of `Networks`.

    Raises:
        ValueError, UserError: as `Networks`; batch size or subset do not fit the data.
    """

    def __init__(
        self,
        configs: Sequence[TrainConfig],
        data: ImageData,
        device: torch.device,
        *,
        start: bool = True,
    ) -> None:
        super().__init__(configs, data, device, start=start)
        data = self.data
        self.parts = [split(data, config) for config in configs]  # training, validation; on the CPU
        self.val_indices = torch.stack([held_out for _, held_out in self.parts], dim=1).to(device)
        self.train_size = len(self.parts[0][0])
        self.batch_size = configs[0].batch_size
        # The remainder of an epoch's permutation is left out: another one every epoch.
        self.steps_per_epoch = self.train_size // self.batch_size
        if self.steps_per_epoch == 0:
            raise UserError(
                f"batch_size = {self.batch_size}: larger than the {self.train_size} training images"
            )
        self.optimizer = BankOptimizer(self.network, configs, self.steps_per_epoch)
        self.augmentation = Augmentation(configs, data.side, device, self.dtype, data.channels)
        # Steps taken, and of them those of this epoch.
        self.counters = torch.zeros(2, dtype=torch.int64, device=device)
        self.clock, self.position = self.counters[0], self.counters[1:]
        # An epoch's batches; sums of loss and accuracy.
        shape = (self.steps_per_epoch, self.batch_size, self.members)
        self.batches = torch.zeros(shape, dtype=torch.int64, device=device)
        self.totals = torch.zeros(2, self.members, device=device, dtype=self.dtype)
        self.drawn: tuple[int, Tensor] | None = None  # an epoch to come and its order
        self.pace = Pace(device)
        self.validated = Counts(self.val_indices, self.dtype)
        # A module of the user's may ask the host for something, which no capture allows.
        host = torch.device("cpu")
        programs = host if isinstance(self.network, ModuleBank) else device
        self.step_program, self.validation_program = Program(programs), Program(programs)
        self.ones = torch.ones(self.members, device=device, dtype=self.dtype)  # of the gradient
        self._prepare_streams()
        smoothing = [config.label_smoothing for config in configs]
        self.smoothing = (
            torch.tensor(smoothing, device=device, dtype=self.dtype) if any(smoothing) else None
        )
        self.averages = self.mixing = None
        if any(config.ema for config in configs):
            tensors = self.network.state_dict(keep_vars=True)
            self.averages = Averages(tensors, [config.ema for config in configs])
        if any(config.mixup or config.cutmix for config in configs):
            self.mixing = Mixing(configs, data.side, self.steps_per_epoch, device, self.dtype)

    def _prepare_streams(self) -> None:
        """Make room for an epoch's keys of all random streams, and for what they draw of images."""
        device, steps = self.device, self.steps_per_epoch
        kinds_of_layers = (Dropout, ModuleBank)
        layers = [m for m in self.network.modules() if isinstance(m, kinds_of_layers) and m.active]
        self.dropouts = [layer for layer in layers if isinstance(layer, Dropout)]
        kinds = self.augmentation.streams
        self.streams = [*kinds.values(), *(layer.prepared(device) for layer in layers)]
        # The step's keys, [S, K, 2], and all of the epoch; what the step's images get, [B, K, P].
        shape = (len(self.streams), self.members, 2)
        self.keys = torch.zeros(shape, dtype=torch.int32, device=device)
        self.key_table = torch.zeros((steps, *shape), dtype=torch.int32, device=device)
        self.kind_keys = dict(zip(kinds, self.keys, strict=False))
        for layer, keys in zip(layers, self.keys[len(kinds) :], strict=True):
            layer.step, layer.keys = self.clock, keys
        numbers = self.augmentation.numbers
        places = (steps, self.batch_size, self.members, numbers) if numbers else (steps, 0)
        self.place_table = torch.zeros(places, dtype=torch.int32, device=device)

    def _draw_epoch(self, epoch: int) -> None:
        """Hash the keys of an epoch's steps, and draw what its images get."""
        first = (epoch - 1) * self.steps_per_epoch
        steps = torch.arange(self.steps_per_epoch, dtype=torch.int32, device=self.device) + first
        for place, stream in enumerate(self.streams):
            self.key_table[:, place] = stream.keys(steps)
        if self.augmentation.numbers:
            keys = dict(zip(self.augmentation.streams, self.key_table.unbind(1), strict=False))
            self.place_table.copy_(self.augmentation.places(keys, self.batch_size))
        if self.mixing is not None:
            self.mixing.draw(epoch)

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
            self.pace.tick()
        if epoch < self.configs[0].epochs:  # while a GPU is still at it
            self.drawn = epoch + 1, self._draw(epoch + 1)
        loss, accuracy = (self.totals / self.steps_per_epoch).tolist()
        return loss, accuracy

    def begin_epoch(self, epoch: int) -> None:
        """Get ready for the steps of an epoch (from 1)."""
        self.network.train()
        self.batches.copy_(self.order(epoch))
        self._draw_epoch(epoch)
        self.clock.fill_((epoch - 1) * self.steps_per_epoch)
        self.position.zero_()
        self.totals.zero_()

    def next_step(self) -> None:
        """Take the step that the clock shows, of the epoch that has begun."""
        self.step_program(self._next_step)

    def _next_step(self) -> None:
        """Take the step that the clock shows. Nothing here comes from the host: see `Program`."""
        batch = self.batches.index_select(0, self.position)[0]
        if self.streams:
            torch.index_select(self.key_table, 0, self.position, out=self.keys[None])
        places = self.place_table.index_select(0, self.position)[0]
        if self.mixing is not None:
            self.mixing.select(self.position)
        self.totals += self._step(batch, places)
        self.counters += 1

    def train_step(self, index: int, batch: Tensor) -> Tensor:
        """Take step `index` on the images `batch` [B, K]; return loss and accuracy, [2, K]."""
        self.clock.fill_(index)
        step = torch.tensor(index, dtype=torch.int32, device=self.device)
        for keys, stream in zip(self.keys, self.streams, strict=True):
            keys.copy_(stream.keys(step))
        if self.mixing is not None:
            epoch, position = divmod(index, self.steps_per_epoch)
            self.mixing.draw(epoch + 1)
            self.mixing.select(torch.tensor([position], device=self.device))
        return self._step(batch, self.augmentation.places(self.kind_keys, len(batch)))

    def _step(self, batch: Tensor, places: Tensor) -> Tensor:
        labels = self.data.train_labels[batch]  # [B, K]
        images = self.pixels(self.data.train_images, batch)  # [B, K*C, H, W]
        pixels = self.augmentation.apply(images, places, self.kind_keys)
        x = self.normalise(pixels if self.mixing is None else self.mixing.images(pixels))
        with self.autocast():
            logits = self.network(x)
        logits = logits.to(self.dtype)
        losses = self._of_labels(lambda of: cross_entropy(logits, of, self.smoothing), labels)
        torch.autograd.backward(losses, self.ones)
        self.optimizer.step(self.clock)
        with torch.no_grad():
            if self.averages is not None:
                self.averages.update(self.clock)
            predicted = logits.argmax(2)
            right = self._of_labels(lambda of: (predicted == of).to(self.dtype).mean(0), labels)
            return torch.stack([losses, right])

    def _of_labels(self, figure: Callable[[Tensor], Tensor], labels: Tensor) -> Tensor:
        """Return a figure, [K], of the labels [B, K]; where images are mixed, weighted."""
        return figure(labels) if self.mixing is None else self.mixing.weighted(figure, labels)

    def validate(self) -> Evaluation:
        """Evaluate each member on its own validation images."""
        self.network.eval()
        self.validation_program(self._next_validation)
        return self.validated.evaluation()

    def _next_validation(self) -> None:
        data = self.data
        with torch.no_grad(), self.averages.in_place() if self.averages else nullcontext():
            self.evaluate(data.train_images, data.train_labels, self.val_indices, self.validated)

    def validated_state(self, k: int) -> State:
        """Copy the weights of member k that `validate` looks at: averages, if it has any."""
        return self._averages_of(k) or super().state(k)

    def state(self, k: int) -> State:
        """Copy all of member k's tensors: weights, statistics, and averages by `average.NAME`."""
        averages = {f"average.{name}": own for name, own in self._averages_of(k).items()}
        return {**super().state(k), **averages}

    def load_state(self, k: int, state: State) -> None:
        """Take over a member's tensors, as of `state`."""
        super().load_state(k, state)
        if self.averages is not None:
            averages = {name: state[f"average.{name}"] for name in self._member(k)}
            with torch.no_grad(), self.averages.in_place():
                super().load_state(k, averages)

    def _averages_of(self, k: int) -> State:
        if self.averages is None:
            return {}
        with torch.no_grad(), self.averages.in_place():
            return super().state(k)

    def worth_leaving(self, members: int) -> bool:
        """Whether so many of its members would rather go on in a smaller bank.

        What is captured would be captured again, which takes as long as hundreds of steps; those
        who have left go on unheard until half of the bank are such.
        """
        captured = self.step_program.capture is not None
        return members <= self.members // 2 if captured else members < self.members

    def keep(self, positions: Sequence[int]) -> "Bank":
        """Return a bank of some of the members, going on where they are."""
        configs = [self.configs[k] for k in positions]
        smaller = Bank(configs, self.data, self.device, start=False)
        for new, old in enumerate(positions):
            smaller.load_state(new, self.state(old))
            smaller.optimizer.load_state(new, self.optimizer.state(old))
        return smaller

    @property
    def form(self) -> tuple[object, ...]:
        """What a capture of this bank's work holds besides the values of tensors.

        A bank of equal form on the same data does the same operations on tensors of equal shapes.
        """
        sizes = tuple((tensor.shape, tensor.dtype) for tensor in self._tensors_in_place())
        kinds = (*self.augmentation.uses, self.mixing is not None)
        return self.configs[0].fusion_key, self.device, self.optimizer.form, kinds, sizes

    def _tensors_in_place(self) -> list[Tensor]:
        """List what the members bring: all that differs between two banks of one form."""
        return [
            *self.network.parameters(),
            *self.network.buffers(),
            *self.optimizer.tensors(),
            *self.augmentation.uses.values(),
            *(stream.seeds for stream in self.streams),
            *([] if self.smoothing is None else [self.smoothing]),
            *([] if self.averages is None else [self.averages.decays, *self.averages.of.values()]),
            *(self.scale, self.shift, self.val_indices),
        ]

    def take_over(self, fresh: "Bank") -> None:
        """Become a fresh bank of the same form: its values go where this one's lie."""
        with torch.no_grad():
            for mine, theirs in zip(
                self._tensors_in_place(), fresh._tensors_in_place(), strict=True
            ):
                mine.copy_(theirs)
        for layer in self.dropouts:
            layer.rescale()
        self.configs, self.parts, self.drawn = fresh.configs, fresh.parts, None
        self.optimizer.table = fresh.optimizer.table
        if self.mixing is not None:
            self.mixing.configs = fresh.configs

    def order(self, epoch: int) -> Tensor:
        """Return every member's order of its training images, [steps, B, K]: f(seed, epoch)."""
        drawn, self.drawn = self.drawn, None
        order = drawn[1] if drawn is not None and drawn[0] == epoch else self._draw(epoch)
        by_step = order.to(self.device, non_blocking=True).view(self.members, -1, self.batch_size)
        return by_step.permute(1, 2, 0)

    def _draw(self, epoch: int) -> Tensor:
        """Draw the members' orders of an epoch on the CPU, [K, steps * B]."""
        used = self.steps_per_epoch * self.batch_size
        on_gpu = self.device.type == "cuda"
        order = torch.empty(self.members, used, dtype=torch.int64, pin_memory=on_gpu)
        for k, (config, (images, _)) in enumerate(zip(self.configs, self.parts, strict=True)):
            numbers = generator(config.seed, "order", epoch)
            drawn = torch.randperm(self.train_size, generator=numbers)
            torch.index_select(images, 0, drawn[:used], out=order[k])
        return order
