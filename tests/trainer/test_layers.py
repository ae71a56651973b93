"""Layers over a bank: each member's part is the plain layer."""

import pytest
import torch
from torch import Tensor, nn

from trainer.errors import UserError
from trainer.layers import (
    ChannelNorm,
    Convolution,
    Dropout,
    FeatureNorm,
    Flatten,
    GlobalAverage,
    PReLU,
    activation,
    by_member,
)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def filled(layer: nn.Module) -> nn.Module:
    """The layer in fp64 with random weights."""
    generator = torch.Generator().manual_seed(1)
    for parameter in layer.to(torch.float64).parameters():
        parameter.detach().normal_(generator=generator)
    return layer


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("options", "side"),
    [
        ({"kernel": 3}, 9),
        ({"kernel": 5}, 9),
        ({"kernel": 7, "stride": 2}, 5),
        ({"kernel": 1, "stride": 2}, 5),
        ({"kernel": 3, "padding": 0}, 7),
        ({"kernel": 3, "stride": 2, "groups": 4}, 5),
    ],
)
def test_a_convolution_is_one_of_pytorchs_per_member(
    options: dict[str, int], side: int, bias: bool
) -> None:
    layer = Convolution(3, 4, 8, bias=bias, **options)
    filled(layer)
    x = normal(2, 3 * 4, 9, 9)
    out = by_member(layer(x), 3, 1)
    assert out.shape == (2, 3, 8, side, side)
    given = {name: value for name, value in options.items() if name != "kernel"}
    given.setdefault("padding", options["kernel"] // 2)
    for k in range(3):
        plain = nn.Conv2d(4, 8, options["kernel"], bias=bias, **given)  # type: ignore[arg-type]
        # Where ours starts is told by its fan in.
        bound = 1 / layer.fan_in**0.5
        assert 0.5 * bound < plain.weight.abs().max() <= bound
        plain.to(torch.float64)
        plain.load_state_dict({n: by_member(t, 3)[k] for n, t in layer.state_dict().items()})
        torch.testing.assert_close(out[:, k], plain(by_member(x, 3, 1)[:, k]))


@pytest.mark.parametrize("shape", [(5, 3 * 4, 2, 2), (5, 3, 4)])
def test_a_learned_slope_is_its_members_own(shape: tuple[int, ...]) -> None:
    layer = PReLU(3)
    assert layer.weight.tolist() == nn.PReLU().weight.tolist() * 3
    filled(layer)
    x = normal(*shape)
    out = layer(x)
    out.sum().backward()
    for k in range(3):
        plain = nn.PReLU().to(torch.float64)
        plain.load_state_dict({"weight": layer.weight[[k]]})
        mine = by_member(x, 3, 1)[:, k]
        torch.testing.assert_close(by_member(out, 3, 1)[:, k], plain(mine))
        assert layer.weight.grad is not None
        torch.testing.assert_close(layer.weight.grad[k], mine.clamp(max=0).sum())


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "gelu", "silu", "prelu"])
@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_pooling_after_an_activation_is_what_it_says(name: str, pooling: str) -> None:
    x = normal(2, 6, 5, 5)
    first = activation(name, 2).to(torch.float64)
    pool = nn.MaxPool2d(2) if pooling == "max" else nn.AvgPool2d(2)
    pooled = activation(name, 2, pooling).to(torch.float64)(x)
    assert pooled.shape == (2, 6, 2, 2)
    torch.testing.assert_close(pooled, pool(first(x)))


@pytest.mark.parametrize("training", [False, True])
def test_a_batch_norm_of_features_is_one_of_pytorchs_per_member(training: bool) -> None:
    layer = filled(FeatureNorm(3 * 4)).train(training)
    x = normal(6, 3, 4)
    plains = [nn.BatchNorm1d(4).to(torch.float64).train(training) for _ in range(3)]
    state = layer.state_dict()
    for k, plain in enumerate(plains):
        plain.load_state_dict({n: by_member(t, 3)[k] if t.dim() else t for n, t in state.items()})
    out = layer(x)
    for k, plain in enumerate(plains):
        torch.testing.assert_close(out[:, k], plain(x[:, k]))


def test_one_value_per_channel_has_no_statistics() -> None:
    for norm, one, more in [
        (ChannelNorm(4), (1, 4, 1, 1), (1, 4, 1, 2)),
        (FeatureNorm(4), (1, 2, 2), (2, 2, 2)),
    ]:
        with pytest.raises(UserError, match="batch_size = 1"):
            norm(torch.zeros(one))
        assert norm(torch.zeros(more)).shape == more
        assert norm.eval()(torch.zeros(one)).shape == one


def test_members_are_flattened_and_averaged_apart() -> None:
    x = normal(2, 3 * 4, 5, 5)
    own = x.unflatten(1, (3, 4))
    layout = x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(Flatten(3)(layout), own.flatten(2))
    torch.testing.assert_close(GlobalAverage(3)(layout), own.mean((3, 4)))


def dropout(rates: list[float], step: int = 0) -> Tensor:
    """Dropout of ones [2000, K, 50]."""
    layer = Dropout(rates, list(range(len(rates))), "dropout")
    layer.step = torch.tensor(step, dtype=torch.int32)
    result: Tensor = layer(torch.ones(2000, len(rates), 50))
    return result


def test_dropout_zeroes_each_members_share_and_scales_the_others_up() -> None:
    rates = [0.0, 0.2, 0.5, 0.9]
    out = dropout(rates)
    for k, rate in enumerate(rates):
        values = out[:, k].unique()
        torch.testing.assert_close(values[-1], torch.tensor(1 / (1 - rate)))
        assert len(values) == (1 if rate == 0 else 2)
        assert (out[:, k] == 0).float().mean().item() == pytest.approx(rate, abs=0.01)
    assert torch.equal(dropout(rates), out)
    assert not torch.equal(dropout(rates, step=1), out)


@pytest.mark.parametrize("channels", [False, True])
def test_dropout_of_images_drops_single_values_or_whole_channels_of_each_member(
    channels: bool,
) -> None:
    layer = Dropout([0.25, 0.5], [0, 1], "dropout", channels=channels)
    layer.step = torch.tensor(0, dtype=torch.int32)
    x = torch.ones(500, 2 * 16, 4, 4).contiguous(memory_format=torch.channels_last)
    first, second = (layer(x) > 0).unflatten(1, (2, 16)).unbind(1)  # [500, 16, 4, 4] each
    for kept, rate in ((first, 0.25), (second, 0.5)):
        assert (~kept).float().mean().item() == pytest.approx(rate, abs=0.03)
        mixed = (kept.any(3).any(2) & ~kept.all(3).all(2)).float().mean().item()
        assert mixed == 0 if channels else mixed > 0.9
    alone = Dropout([0.5], [1], "dropout", channels=channels)
    alone.step = layer.step
    assert torch.equal(alone(x[:, :16]) > 0, second)


def test_dropout_does_nothing_in_evaluation() -> None:
    layer = Dropout([0.5], [0], "dropout").eval()
    x = torch.ones(2, 1, 5)
    assert layer(x) is x
