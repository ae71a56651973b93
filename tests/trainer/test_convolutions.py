"""The ways to convolve a bank's images: the same function and gradients, behind one switch."""

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F

from tests.support.trainings import MIXED, losses, small
from trainer import convolutions
from trainer.convolutions import WAYS, convolve
from trainer.data import ImageData
from trainer.errors import UserError
from trainer.layers import Convolution
from trainer.train import train


@pytest.fixture(autouse=True)
def afterwards() -> Iterator[None]:
    """The process goes on as it began."""
    yield
    convolutions.use("auto")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("shape", "options"),  # of the kernels of a member; groups, stride and padding
    [
        ((5, 3, 3), (4, 1, 1)),
        ((4, 4, 1), (2, 1, 0)),
        ((4, 2, 5), (3, 2, 2)),
        ((2, 1, 3), (6, 1, 1)),
        ((3, 1, 7), (2, 2, 3)),
    ],
)
def test_every_way_is_the_same_function_with_the_same_gradients(
    way: str, shape: tuple[int, int, int], options: tuple[int, int, int]
) -> None:
    (outputs, inputs, kernel), (groups, stride, padding) = shape, options
    numbers = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=numbers, dtype=torch.float64).requires_grad_()

    x = random(2, groups * inputs, 9, 8)
    weight, bias = random(groups * outputs, inputs, kernel, kernel), random(groups * outputs)
    expected = F.conv2d(x, weight, bias, stride, padding, groups=groups)
    convolutions.use(way)
    out = convolve(x, weight, bias, stride=stride, padding=padding, groups=groups)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
    upstream = torch.randn(out.shape, generator=numbers, dtype=torch.float64)
    for ours, theirs in zip(
        torch.autograd.grad(out, (x, weight, bias), upstream),
        torch.autograd.grad(expected, (x, weight, bias), upstream),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("way", ["separate", "products"])
@pytest.mark.parametrize("network", [{"depth": 3}, {"architecture": "mobilenet_v2"}], ids=str)
def test_a_bank_trains_to_the_same_figures_in_every_way(
    digits: ImageData, network: dict[str, object], way: str
) -> None:
    fields = {"precision": "fp64", "epochs": 1, "subset": 100, **network}
    configs = [small(**{**fields, **member}) for member in MIXED[:2]]
    expected = train(configs, digits)
    convolutions.use(way)
    for ours, theirs in zip(train(configs, digits), expected, strict=True):
        assert losses(ours) == pytest.approx(losses(theirs), rel=1e-9)
        assert ours.convolutions == way


def test_a_member_alone_is_not_touched_by_the_switch(digits: ImageData) -> None:
    expected = train([small(epochs=1)], digits)
    convolutions.use("products")
    (alone,) = train([small(epochs=1)], digits)
    assert losses(alone) == losses(expected[0])
    assert alone.convolutions == "grouped"


def test_evaluation_convolves_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the switch was asked")

    monkeypatch.setattr("trainer.layers.convolve", refuse)
    layer = Convolution(2, 1, 2, 3, bias=False)
    layer.eval()(torch.randn(1, 2, 4, 4))
    with pytest.raises(AssertionError):
        layer.train()(torch.randn(1, 2, 4, 4))


def test_another_way_is_refused() -> None:
    with pytest.raises(UserError, match=r"convolutions = 'fast'.*grouped, separate, products"):
        convolutions.use("fast")
