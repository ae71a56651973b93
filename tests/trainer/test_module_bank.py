"""Networks of the user's: trained as ours, alone and in banks."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support import modules
from tests.support.house import ROOT
from trainer import user_code
from trainer.config import TrainConfig
from trainer.data import ImageData, load
from trainer.errors import UserError
from trainer.fusion import obstacle
from trainer.results import Result
from trainer.resume import ResumePoints
from trainer.train import train

CPU = torch.device("cpu")
SETTINGS = {"width": 4, "dropout": 0.3, "patch": 2, "heads": 2}
OPTIONS = {f"model_options.{name}": value for name, value in SETTINGS.items()}


@pytest.fixture(scope="module")
def digits() -> ImageData:
    user_code.look_in([ROOT / "docs" / "examples" / "network"])
    return load("digits", None)


def config(name: str, **more: Any) -> TrainConfig:
    place = "networks" if name in ("cnn", "ViT") else modules.__name__
    base = {"dataset": "digits", "subset": 300, "epochs": 2, "precision": "fp64"}
    return TrainConfig.from_dict({**base, "architecture": f"{place}:{name}", **OPTIONS, **more})


def four(name: str) -> list[TrainConfig]:
    return [config(name, seed=seed, learning_rate=1e-3 * (seed + 1)) for seed in range(4)]


def course(result: Result) -> list[dict[str, Any]]:
    """Return the epochs without their seconds."""
    return [{**dataclasses.asdict(e), "seconds": 0.0} for e in result.history]


@pytest.mark.parametrize("name", ["cnn", "ViT", "Functional", "Scaled"])
def test_a_bank_of_four_modules_has_the_losses_of_its_single_runs(
    name: str, digits: ImageData
) -> None:
    configs = four(name)
    together = train(configs, digits)
    assert [result.bank for result in together] == [4] * 4
    for one_of_four, each in zip(together, configs, strict=True):
        (alone,) = train([each], digits)
        for mine, theirs in zip(one_of_four.history, alone.history, strict=True):
            assert mine.train_loss == pytest.approx(theirs.train_loss, rel=1e-10)
            assert mine.val_loss == pytest.approx(theirs.val_loss, rel=1e-10)
        assert one_of_four.test_loss == pytest.approx(alone.test_loss, rel=1e-10)
        assert one_of_four.parameters == alone.parameters
    assert len({result.history[0].train_loss for result in together}) == 4


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Branching", "data-dependent control flow (modules.py, line "),
        ("Counting", "calls keeps state in Python"),
        ("Noisy", "random operation"),
    ],
)
def test_what_cannot_be_one_bank_says_so_and_trains_one_by_one(
    name: str, reason: str, digits: ImageData
) -> None:
    configs = four(name)[:2]
    assert reason in str(obstacle(configs, digits, CPU))
    told: list[tuple[int, int]] = []

    def watch(epochs: Any) -> list[int]:
        told.extend((position, epoch.epoch) for position, epoch in epochs.items())
        return [1] if 1 in epochs else []

    results = train(configs, digits, on_epoch=watch)
    assert [result.bank for result in results] == [1, 1]
    assert [result.outcome for result in results] == ["finished", "stopped"]
    assert told == [(0, 1), (0, 2), (1, 1)]


def test_members_of_a_bank_leave_it_and_the_others_go_on_as_alone(digits: ImageData) -> None:
    configs = four("Scaled")[:3]
    results = train(configs, digits, on_epoch=lambda epochs: [0, 2])
    (alone,) = train([configs[1]], digits)
    assert [result.outcome for result in results] == ["stopped", "finished", "stopped"]
    assert results[1].val_loss == pytest.approx(alone.val_loss, rel=1e-10)


@pytest.mark.parametrize("name", ["cnn", "Noisy"])
def test_a_training_that_goes_on_from_a_file_is_the_uninterrupted_one(
    name: str, digits: ImageData, tmp_path: Path
) -> None:
    each = config(name, epochs=3)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    (whole,) = train([each], digits)
    assert torch.equal(torch.get_rng_state(), before)
    points = ResumePoints([tmp_path / "point"], {}, 0.0)

    def interrupt(epochs: Any) -> list[int]:
        if epochs[0].epoch == 3:
            raise KeyboardInterrupt
        return []

    with pytest.raises(KeyboardInterrupt):
        train([each], digits, on_epoch=interrupt, resume=points)
    torch.manual_seed(2)
    (resumed,) = train([each], digits, resume=points)
    assert course(resumed) == course(whole)
    assert resumed.weights_sha256 == whole.weights_sha256


def test_the_same_seed_starts_equal_and_another_one_does_not(digits: ImageData) -> None:
    losses = [
        train([config("cnn", epochs=1, seed=seed, learning_rate=rate)], digits)[0].state
        for seed, rate in [(0, 1e-12), (0, 2e-12), (1, 1e-12)]
    ]
    first, same, other = (state["0.weight"] for state in losses if state is not None)
    assert torch.allclose(first, same, atol=1e-8)
    assert not torch.allclose(first, other, atol=1e-3)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("nowhere.at_all:net", "there is no module 'nowhere'"),
        (f"{modules.__name__}:Missing", "has no 'Missing'; it has"),
        (f"{modules.__name__}:not_a_module", "returned str, must be a nn.Module"),
        (f"{modules.__name__}:raising", "ValueError: no such (modules.py, line "),
        (f"{modules.__name__}:leaving", "SystemExit: 3 (modules.py, line "),
        (f"{modules.__name__}:Leaving", "SystemExit: no more (modules.py, line "),
        ("nowhere.py:net", "; the module of nowhere.py is nowhere"),
        (f"{modules.__name__}:of_seven_classes", "must be logits (64, 10)"),
    ],
)
def test_a_mistake_in_a_network_is_said_in_a_line(
    architecture: str, message: str, digits: ImageData
) -> None:
    wrong = config("cnn").replace(architecture=architecture)
    with pytest.raises(UserError, match="architecture = ") as caught:
        train([wrong], digits)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
