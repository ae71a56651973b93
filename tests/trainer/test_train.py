"""The training loop, and what a bank of members promises."""

import dataclasses
import time
from collections.abc import Mapping
from types import SimpleNamespace

import pytest
import torch

from tests.support.trainings import MIXED, losses, small
from trainer.bank import Bank
from trainer.cost import measure
from trainer.data import ImageData
from trainer.errors import UserError
from trainer.networks import Evaluation, Networks
from trainer.results import Epoch
from trainer.train import train

CPU = torch.device("cpu")


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_a_member_of_a_bank_trains_as_it_does_alone_to_1e_10_in_fp64(
    digits: ImageData, optimizer: str
) -> None:
    common = {"precision": "fp64", "optimizer": optimizer, "epochs": 1, "subset": 1250}
    configs = [small(**common, **member) for member in MIXED]
    together = Bank(configs, digits, CPU)
    order = together.order(1)[:30]
    assert len(order) == 30
    fused = torch.stack([together.train_step(i, batch) for i, batch in enumerate(order)])
    for k, config in enumerate(configs):
        alone = Bank([config], digits, CPU)
        single = torch.stack(
            [alone.train_step(i, batch) for i, batch in enumerate(alone.order(1)[:30])]
        )
        assert (fused[:, 0, k] - single[:, 0, 0]).abs().max() < 1e-10
        for name, tensor in alone.state(0).items():
            torch.testing.assert_close(together.state(k)[name], tensor, rtol=0, atol=1e-9)


def test_a_member_of_a_bank_has_the_same_epochs_as_alone_in_fp32(digits: ImageData) -> None:
    configs = [small(**member) for member in MIXED]
    for config, fused in zip(configs, train(configs, digits), strict=True):
        (alone,) = train([config], digits)
        assert losses(fused) == pytest.approx(losses(alone), rel=2e-3)
        assert fused.parameters == alone.parameters


def test_members_with_the_same_config_and_seed_are_equal(digits: ImageData) -> None:
    config = small(augmentation="flip+erase+translate+crop+rotate")
    first, second = train([config, config], digits)
    assert losses(first) == pytest.approx(losses(second), rel=1e-6)


def test_training_twice_gives_the_same_figures(digits: ImageData) -> None:
    config = small(augmentation="flip+erase", dropout=0.3)
    first, second = (train([config], digits)[0] for _ in range(2))
    assert losses(first) == losses(second)


def test_training_ignores_and_leaves_the_global_generator(digits: ImageData) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = train([small(dropout=0.5, augmentation="erase", epochs=1)], digits)[0]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    second = train([small(dropout=0.5, augmentation="erase", epochs=1)], digits)[0]
    assert losses(first) == losses(second)


def test_a_member_that_stops_leaves_the_others_unchanged(digits: ImageData) -> None:
    configs = [small(**member, epochs=4) for member in MIXED]

    def stop_two(epochs: Mapping[int, Epoch]) -> list[int]:
        return [1, 3] if epochs[0].epoch == 2 else []

    results = train(configs, digits, on_epoch=stop_two)
    assert [result.outcome for result in results] == ["finished", "stopped", "finished", "stopped"]
    assert [len(result.history) for result in results] == [4, 2, 4, 2]
    assert results[1].test_accuracy is None
    for k in (0, 2):
        (alone,) = train([configs[k]], digits)
        assert losses(results[k]) == pytest.approx(losses(alone), rel=5e-3)


def test_it_learns_the_digits(digits: ImageData) -> None:
    (result,) = train([small(width=16, epochs=8)], digits)
    assert result.val_accuracy is not None
    assert result.test_accuracy is not None
    assert result.val_accuracy > 0.95
    assert result.test_accuracy > 0.95


def test_the_best_epoch_is_the_first_of_highest_validation_accuracy_and_its_weights_are_kept(
    digits: ImageData,
) -> None:
    config = small(epochs=6, learning_rate=0.02)
    (result,) = train([config], digits)
    accuracies = [epoch.val_accuracy for epoch in result.history]
    assert result.best_epoch == accuracies.index(max(accuracies)) + 1
    bank = Bank([config], digits, CPU)
    assert result.state is not None
    bank.load_state(0, result.state)
    again = bank.validate()
    assert again.loss[0] == pytest.approx(result.val_loss)
    assert again.accuracy[0] == result.val_accuracy


def test_test_figures_never_choose_anything(digits: ImageData) -> None:
    shuffled = dataclasses.replace(digits, test_labels=digits.test_labels.flip(0))
    first, second = (train([small()], data)[0] for data in (digits, shuffled))
    assert first.test_accuracy != second.test_accuracy
    assert (losses(first), first.best_epoch) == (losses(second), second.best_epoch)


def test_the_test_set_is_evaluated_once(digits: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    test = Networks.test

    def count(networks: Networks) -> Evaluation:
        looks.append(networks.members)
        return test(networks)

    monkeypatch.setattr(Networks, "test", count)
    train([small(seed=0), small(seed=1)], digits)
    assert looks == [1, 1]  # of each member, alone


@pytest.mark.parametrize("monitor", ["val_loss", "val_accuracy"])
def test_early_stopping_ends_after_patience_epochs_without_improvement(
    digits: ImageData, monitor: str
) -> None:
    config = small(epochs=40, early_stopping=monitor, patience=2, learning_rate=0.01)
    (result,) = train([config], digits)
    assert result.outcome == "early-stopped"
    sign = 1 if monitor == "val_loss" else -1
    values = [sign * getattr(epoch, monitor) for epoch in result.history]
    assert len(values) - 1 - values.index(min(values)) == 2


def test_a_member_that_diverges_stops_there_and_spares_its_neighbour(digits: ImageData) -> None:
    wild = small(optimizer="sgd", learning_rate=100.0, batchnorm=False, schedule="constant")
    calm = small(optimizer="sgd", learning_rate=0.01, batchnorm=False, schedule="constant")
    diverged, fine = train([wild, calm], digits)
    assert diverged.outcome == "diverged"
    assert not diverged.history[-1].is_finite
    assert diverged.test_accuracy is None
    assert fine.outcome == "finished"
    assert losses(fine) == pytest.approx(losses(train([calm], digits)[0]), rel=2e-3)


def test_validation_images_are_never_trained_on(digits: ImageData) -> None:
    bank = Bank([small(seed=3)], digits, CPU)
    trained = {int(i) for epoch in (1, 2) for i in bank.order(epoch).flatten()}
    assert trained.isdisjoint(bank.val_indices.flatten().tolist())


def test_configs_that_do_not_fuse_are_refused(digits: ImageData) -> None:
    with pytest.raises(ValueError, match="fusion key"):
        train([small(width=8), small(width=16)], digits)


def test_a_batch_larger_than_the_training_set_is_a_users_error(digits: ImageData) -> None:
    with pytest.raises(UserError, match="batch_size = 2000"):
        train([small(batch_size=2000)], digits)


def test_a_cost_estimate_is_of_the_order_of_the_cost(
    digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    # By this process's own time: where others take theirs between the steps, the median hides it.
    clock = SimpleNamespace(perf_counter=time.process_time)
    for module in ("trainer.cost", "trainer.train"):
        monkeypatch.setattr(f"{module}.time", clock)
    config = small(epochs=6, width=32)
    (result,) = train([config], digits)
    assert result.seconds / 5 < measure(config, digits).seconds < result.seconds * 5


def test_bf16_trains_as_fp32_does_within_noise(digits: ImageData) -> None:
    half, full = (train([small(epochs=6, precision=p)], digits)[0] for p in ("bf16", "fp32"))
    assert half.precision == "bf16"
    assert half.val_accuracy == pytest.approx(full.val_accuracy, abs=0.03)


def test_avg_pooling_residual_and_every_activation_train(digits: ImageData) -> None:
    for activation in ("relu", "leaky_relu", "gelu", "silu"):
        config = small(activation=activation, pooling="avg", residual=True, depth=3, epochs=2)
        (result,) = train([config], digits)
        train_losses = losses(result)[::2]
        assert train_losses[-1] < train_losses[0]
