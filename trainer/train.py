"""The training loop: `train(configs, data) -> [Result]`, for a bank of K >= 1 members.

The loop does not know who watches nor why a member stops: after each epoch it hands the members'
figures to one callable, which names the members that leave.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch

from trainer import checkpoint, convolutions, latency
from trainer import device as devices
from trainer.bank import Bank
from trainer.bank_cache import BankCache
from trainer.config import TrainConfig
from trainer.confusion import confusion
from trainer.data import ImageData
from trainer.fusion import obstacle
from trainer.misclassified import misclassified
from trainer.models import describe
from trainer.networks import Evaluation, Networks
from trainer.results import Epoch, Inference, Result, State
from trainer.resume import ResumePoints, Standing

Watch = Callable[[Mapping[int, Epoch]], Collection[int]]


def train(
    configs: Sequence[TrainConfig],
    data: ImageData,
    *,
    on_epoch: Watch | None = None,
    device: torch.device | str = "cpu",
    resume: ResumePoints | None = None,
    banks: BankCache | None = None,
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
        banks: where a captured bank waits for the next training of the same form.

    Raises:
        UserError: the configs cannot be trained on this data.
        ValueError: the configs cannot be fused.
    """
    data, place = data.to(torch.device(device)), torch.device(device)
    if obstacle(configs, data, place):
        return _one_by_one(configs, data, on_epoch, place, resume)
    members = [_Member(position, config) for position, config in enumerate(configs)]
    cache = banks or BankCache()
    # No name for the bank here: it is freed as soon as members leave it.
    bank = _train_all(members, cache.take(configs, data, place), on_epoch, resume)
    if banks is not None:
        banks.keep(bank)
    del bank  # before the test
    for member in members:
        member.outcome = member.outcome or "finished"
    _test(members, data, place)
    return [member.result(len(configs), data, place) for member in members]


def _one_by_one(
    configs: Sequence[TrainConfig],
    data: ImageData,
    on_epoch: Watch | None,
    device: torch.device,
    resume: ResumePoints | None,
) -> list[Result]:
    """Train modules that cannot be one bank as banks of one, one after the other."""
    results = []
    for position, config in enumerate(configs):

        def watch(epochs: Mapping[int, Epoch], position: int = position) -> Collection[int]:
            stopped = on_epoch({position: epochs[0]}) if on_epoch else ()
            return (0,) if position in stopped else ()

        part = resume.part(position) if resume else None
        results += train([config], data, on_epoch=watch, device=device, resume=part)
    return results


def _train_all(
    members: "Sequence[_Member]",
    bank: Bank,
    on_epoch: Watch | None,
    resume: ResumePoints | None,
) -> Bank:
    """Train until nobody is left or the last epoch is over; return the bank of the last ones."""
    configs = [member.config for member in members]
    alive = members
    done = 0
    standings = resume.read([config.to_dict() for config in configs]) if resume else None
    if standings is not None:
        done = _go_on(members, standings, bank.parameters, on_epoch)
        alive = [member for member in members if member.outcome is None]
        if alive:
            bank = _bank_of(alive, [standings[member.position] for member in alive], bank)
    for epoch in range(done + 1, configs[0].epochs + 1 if alive else 0):
        _train_epoch(alive, bank, epoch)
        alive = _staying(alive, on_epoch)
        if not alive:
            break
        if bank.worth_leaving(len(alive)):
            bank = bank.keep([member.place for member in alive])
            _number(alive)
        if resume is not None and resume.due and epoch < configs[0].epochs:
            resume.write([config.to_dict() for config in configs], _standings(members, alive, bank))
    return bank


def _number(members: "Sequence[_Member]") -> None:
    """Take the members' order for their places in the bank."""
    for place, member in enumerate(members):
        member.place = place


def _staying(alive: "Sequence[_Member]", on_epoch: Watch | None) -> "list[_Member]":
    """Tell of the members' last epoch; return those that go on."""
    stopped = on_epoch({m.position: m.history[-1] for m in alive}) if on_epoch else ()
    for member in alive:
        if member.outcome is None and member.position in stopped:
            member.outcome = "stopped"
    return [member for member in alive if member.outcome is None]


def _train_epoch(alive: "Sequence[_Member]", bank: Bank, epoch: int) -> None:
    """Train and validate the members of a bank for an epoch (from 1)."""
    started = time.perf_counter()
    train_loss, train_accuracy = bank.train_epoch(epoch)
    trained = time.perf_counter() - started
    validated = bank.validate()
    share = (time.perf_counter() - started) / len(alive)
    for member in alive:
        k = member.place
        rate = bank.learning_rate(k, epoch)
        validation = validated.loss[k], validated.accuracy[k]
        figures = train_loss[k], train_accuracy[k], *validation, rate, share
        member.record(Epoch(epoch, *figures), bank, k, trained)


def _go_on(
    members: "Sequence[_Member]",
    standings: Sequence[Standing],
    parameters: int,
    on_epoch: Watch | None,
) -> int:
    """Give the members the courses that were found; return how many epochs they have."""
    for member, standing in zip(members, standings, strict=True):
        member.go_on(standing, parameters)
    epochs = max(len(standing.history) for standing in standings)
    for epoch in range(1, epochs + 1):
        told = {m.position: m.history[epoch - 1] for m in members if len(m.history) >= epoch}
        for position in on_epoch(told) if on_epoch and told else ():
            members[position].stop_after(epoch)
    return epochs


def _bank_of(alive: "Sequence[_Member]", standings: Sequence[Standing], bank: Bank) -> Bank:
    """Return a bank of the members in training, where they stand."""
    if len(alive) < bank.members:
        configs = [member.config for member in alive]
        bank = Bank(configs, bank.data, bank.device, start=False)
    _number(alive)
    for k, standing in enumerate(standings):
        assert standing.weights is not None
        assert standing.optimizer is not None
        bank.load_state(k, standing.weights)
        bank.optimizer.load_state(k, standing.optimizer)
    return bank


def _standings(
    members: "Sequence[_Member]", alive: "Sequence[_Member]", bank: Bank
) -> list[Standing]:
    """Return where all members stand; `alive` are those still in training."""
    places = {member.position: member.place for member in alive}
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
        self.place = position  # in the bank
        self.history: list[Epoch] = []
        self.best: Epoch | None = None
        self.state: State | None = None
        self.outcome: str | None = None  # None: still in training
        self.test: Evaluation | None = None
        self.misclassified: list[dict[str, Any]] | None = None
        self.seconds = 0.0  # of the test evaluation
        self.images_per_second = 0.0
        self.inference: Inference | None = None
        self.parameters = 0

    def record(self, epoch: Epoch, bank: Bank, k: int, trained: float) -> None:
        """Take in one epoch of this member, which is the bank's k-th now."""
        self.history.append(epoch)
        self.parameters = bank.parameters
        self.images_per_second = bank.images_per_epoch / max(trained, 1e-9)
        if not epoch.is_finite:
            self.outcome = "diverged"
            return
        if self.best is None or epoch.val_accuracy > self.best.val_accuracy:
            self.best, self.state = epoch, bank.validated_state(k)
        if self._epochs_without_improvement() >= self.config.patience:
            self.outcome = "early-stopped"

    def go_on(self, standing: Standing, parameters: int) -> None:
        """Take a course that was standing."""
        self.history = list(standing.history)
        self.best, self.state = self._best(), standing.best
        self.outcome, self.parameters = standing.outcome, parameters
        self.images_per_second = standing.images_per_second

    def stop_after(self, epoch: int) -> None:
        """Stop as of an epoch of the past; who has stopped needs no weights."""
        self.history = self.history[:epoch]
        self.best, self.state = self._best(), None
        self.outcome = "stopped"

    def _best(self) -> Epoch | None:
        fine = [epoch for epoch in self.history if epoch.is_finite]
        return max(fine, key=lambda epoch: epoch.val_accuracy, default=None)

    def _epochs_without_improvement(self) -> int:
        if self.config.early_stopping == "none":
            return 0
        if self.config.early_stopping == "val_loss":
            best = min(self.history, key=lambda epoch: epoch.val_loss or 0.0)
        else:
            best = max(self.history, key=lambda epoch: epoch.val_accuracy)
        return self.history[-1].epoch - best.epoch

    def result(self, bank_size: int, data: ImageData, device: torch.device) -> Result:
        """Sum the course up."""
        test, inference = self.test, self.inference
        classes, precision = len(data.classes), devices.precision(self.config, device)
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
            device=devices.describe(device),
            precision=precision,
            bank=bank_size,
            convolutions=convolutions.in_use(device, precision) if bank_size > 1 else "grouped",
            latency_ms=inference[device.type]["1"]["p50_ms"] if inference else None,
            inference=inference,
            multiply_adds=describe(self.config, *data.shape).multiply_adds,
            model_bytes=checkpoint.size(self.state) if self.state else None,
            weights_sha256=checkpoint.sha256(self.state) if self.state and test else None,
            confusion={"test": confusion(test.predicted[:, 0], data.test_labels, classes)}
            if test
            else None,
            misclassified=self.misclassified,
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
        alone = Networks.trained(member.config, member.state, data, device)
        member.test = alone.test()
        member.misclassified = misclassified(alone, member.test)
        member.seconds = time.perf_counter() - started
        # Members of a bank are networks of one shape, which is all that their speed depends on.
        shape = data.side, data.channels
        inference = inference or latency.inference(alone.network, member.config, shape, device)
        member.inference = inference
