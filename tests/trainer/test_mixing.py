"""Mixup and CutMix: pixels, labels, odds, and members that do not depend on each other."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats

from tests.support.trainings import losses, small
from trainer.bank import Bank
from trainer.data import ImageData
from trainer.mixing import Mixing
from trainer.train import train

CPU = torch.device("cpu")
STEPS = 2000
MEMBERS: list[dict[str, Any]] = [
    {"seed": 0, "mixup": 0.2},
    {"seed": 1, "cutmix": 1.0, "label_smoothing": 0.1},
    {"seed": 2, "mixup": 1.0, "cutmix": 1.0, "augmentation": "flip"},
    {"seed": 0},
]


def mixing(*members: dict[str, Any], epoch: int = 1) -> Mixing:
    """Rows of an epoch for images of 8 x 8 pixels."""
    made = Mixing([small(**member) for member in members], 8, STEPS, CPU, torch.float64)
    made.draw(epoch)
    return made


def test_mixup_weights_are_of_the_beta_distribution() -> None:
    rows = mixing({"mixup": 0.4}).table[:, 0].numpy()
    assert stats.kstest(rows[:, 0], stats.beta(0.4, 0.4).cdf).pvalue > 1e-3
    assert np.array_equal(rows[:, 0], rows[:, 1])
    assert not rows[:, 2:].any()  # no box


def test_mixup_adds_an_image_and_its_partner() -> None:
    made = mixing({"mixup": 1.0}, {})
    x = torch.rand(5, 2, 8, 8, dtype=torch.float64)
    made.select(torch.tensor([3]))
    weight = made.table[3, 0, 0]
    mixed = made.images(x)
    torch.testing.assert_close(mixed[:, 0], weight * x[:, 0] + (1 - weight) * x[:, 0].flip(0))
    assert torch.equal(mixed[:, 1], x[:, 1])  # who does not mix keeps the exact pixels


def test_cutmix_puts_a_box_of_the_partner_whose_share_is_that_of_its_label() -> None:
    made = mixing({"cutmix": 1.0})
    x = torch.rand(4, 1, 8, 8, dtype=torch.float64)
    shares = []
    for step in range(200):
        made.select(torch.tensor([step]))
        mixed = made.images(x)
        cut = mixed != x
        assert torch.equal(torch.where(cut, x.flip(0), x), mixed)
        box = cut[0, 0]
        assert torch.equal(box, box.any(1)[:, None] & box.any(0)[None])  # a rectangle
        shares.append(1 - box.double().mean().item())
    assert shares == pytest.approx(made.table[:200, 0, 1].tolist())
    assert min(shares) < 0.3
    assert max(shares) > 0.9


def test_of_both_each_is_taken_in_half_of_the_steps() -> None:
    rows = mixing({"mixup": 1.0, "cutmix": 1.0}).table[:, 0]
    assert (rows[:, 0] < 1).double().mean().item() == pytest.approx(0.5, abs=0.05)
    boxes = rows[rows[:, 0] == 1]
    assert (boxes[:, 1] < 1).double().mean().item() > 0.8  # some boxes are empty


def test_what_is_drawn_depends_on_seed_and_epoch_alone() -> None:
    table = mixing(*MEMBERS).table
    assert torch.equal(mixing(MEMBERS[2], MEMBERS[0]).table, table[:, [2, 0]])
    assert not torch.equal(mixing(MEMBERS[0], epoch=2).table, table[:, :1])
    assert not torch.equal(mixing({**MEMBERS[0], "seed": 5}).table, table[:, :1])


def test_the_loss_is_weighted_between_both_labels(digits: ImageData) -> None:
    config = small(mixup=1.0, precision="fp64", dropout=0.0, batchnorm=False)
    bank = Bank([config], digits, CPU)
    (batch,) = bank.order(1)[:1]
    images = digits.train_images[batch[:, 0]].double().view(-1, 1, 8, 8) / 255
    labels = digits.train_labels[batch[:, 0]]
    assert bank.mixing is not None
    bank.mixing.draw(1)
    weight = bank.mixing.table[0, 0, 0]
    x = bank.normalise(weight * images + (1 - weight) * images.flip(0))
    logits = bank.network(x)[:, 0]
    own, other = F.cross_entropy(logits, labels), F.cross_entropy(logits, labels.flip(0))
    expected = weight * own + (1 - weight) * other
    loss = bank.train_step(0, batch)[0, 0].item()
    assert loss == pytest.approx(expected.item(), rel=1e-9)


def test_a_member_mixes_in_a_bank_as_it_does_alone(digits: ImageData) -> None:
    configs = [small(precision="fp64", subset=400, **member) for member in MEMBERS]
    for config, result in zip(configs, train(configs, digits), strict=True):
        (alone,) = train([config], digits)
        assert losses(result) == pytest.approx(losses(alone), rel=1e-9)
