"""Averages of weights: their values, and that they are what is validated, kept and tested."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.trainings import losses, small
from trainer.bank import Bank
from trainer.data import ImageData
from trainer.networks import Networks
from trainer.results import Epoch
from trainer.resume import ResumePoints
from trainer.train import train

CPU = torch.device("cpu")
MEMBERS: list[dict[str, Any]] = [
    {"seed": 0, "ema": 0.9},
    {"seed": 1},
    {"seed": 2, "ema": 0.99},
    {"seed": 0, "ema": 0.5},
]


def test_an_average_follows_its_weight_as_defined_and_is_what_is_validated(
    digits: ImageData,
) -> None:
    configs = [small(precision="fp64", subset=400, **member) for member in MEMBERS]
    bank = Bank(configs, digits, CPU)
    expected = [Networks.state(bank, k) for k in range(4)]
    for step, batch in enumerate(bank.order(1)[:8]):
        bank.train_step(step, batch)
        for k, config in enumerate(configs):
            decay = min(config.ema, (1 + step) / (10 + step))
            for name, weight in Networks.state(bank, k).items():
                expected[k][name] = decay * expected[k][name] + (1 - decay) * weight
    before = [Networks.state(bank, k) for k in range(4)]
    validated = bank.validate()
    for k, config in enumerate(configs):
        state = bank.validated_state(k)
        for name, average in expected[k].items():
            torch.testing.assert_close(state[name], average, rtol=1e-12, atol=1e-12)
            assert torch.equal(Networks.state(bank, k)[name], before[k][name])  # put back
        alone = Bank([config.replace(ema=0.0)], digits, CPU)
        alone.load_state(0, state)
        assert alone.validate().loss[0] == pytest.approx(validated.loss[k], rel=1e-9)
        same = all(torch.equal(state[name], before[k][name]) for name in state)
        assert same == (config.ema == 0)


def test_averaging_changes_nothing_but_what_is_evaluated(digits: ImageData) -> None:
    plain, averaged = (train([small(ema=ema)], digits)[0] for ema in (0.0, 0.95))
    for epoch, other in zip(plain.history, averaged.history, strict=True):
        assert epoch.train_loss == other.train_loss
        assert epoch.val_loss != other.val_loss
    assert averaged.state is not None
    again = Networks.trained(small(ema=0.95), averaged.state, digits, CPU)
    assert again.test().accuracy[0] == averaged.test_accuracy


def test_a_member_of_a_mixed_bank_is_averaged_as_it_is_alone(digits: ImageData) -> None:
    configs = [small(precision="fp64", subset=400, **member) for member in MEMBERS]

    def stop_one(epochs: Mapping[int, Epoch]) -> list[int]:
        return [3] if epochs[0].epoch == 2 else []

    together = train(configs, digits, on_epoch=stop_one)  # the others go on in a smaller bank
    for config, result in zip(configs[:3], together, strict=False):
        (alone,) = train([config], digits)
        assert losses(result) == pytest.approx(losses(alone), rel=1e-9)


def test_a_training_that_goes_on_has_its_averages(digits: ImageData, tmp_path: Path) -> None:
    configs = [small(subset=400, epochs=4, **member) for member in MEMBERS]
    expected = train(configs, digits)
    points = [tmp_path / f"{k}.resume" for k in range(4)]

    def break_off(epochs: Mapping[int, Epoch]) -> list[int]:
        if epochs[0].epoch == 3:
            raise KeyboardInterrupt
        return []

    with pytest.raises(KeyboardInterrupt):
        train(configs, digits, on_epoch=break_off, resume=ResumePoints(points, {}, 0.0))
    assert all(point.exists() for point in points)
    results = train(configs, digits, resume=ResumePoints(points, {}, 0.0))
    for result, other in zip(results, expected, strict=True):
        assert losses(result) == losses(other)
        assert result.weights_sha256 == other.weights_sha256
