"""The networks: their sizes, what they compute, and where they start."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainer.config import TrainConfig
from trainer.layers import Convolution, Dropout, Linear, by_member
from trainer.models import ARCHITECTURES, Step, build, parameter_count

SIDE, CLASSES = 28, 10


def one(**fields: Any) -> nn.Module:
    """A network of one member, in fp64 and in evaluation mode."""
    network = build([TrainConfig(**fields)], SIDE, CLASSES)
    return network.to(torch.float64).eval()


def batch(members: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(4, members, SIDE, SIDE, dtype=torch.float64, generator=generator)


def randomise_norms(network: nn.Module) -> None:
    """Give the batch norms statistics and weights as after training: new ones do nothing."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                tensor.detach().uniform_(0.5, 1.5, generator=generator)


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        ({"depth": 2}, 50_282),
        ({"depth": 2, "residual": True}, 76_170),
        ({"depth": 4}, 247_978),
        ({"depth": 4, "batchnorm": False}, 247_338),
        ({"depth": 4, "residual": True}, 402_538),
        ({"depth": 4, "residual": True, "width": 64}, 1_480_906),
        ({"depth": 4, "residual": True, "width": 128}, 5_665_162),
        ({"depth": 4, "residual": True, "width": 512}, 87_541_258),
        ({"depth": 4, "kernel_size": 1}, 83_882),
        ({"depth": 4, "kernel_size": 5}, 576_170),
    ],
)
@pytest.mark.parametrize("members", [1, 3])
def test_the_networks_of_seed_003_have_their_exact_parameter_counts(
    fields: dict[str, Any], count: int, members: int
) -> None:
    config = TrainConfig(**fields)
    with torch.device("meta"):  # shapes alone: the largest would fill a gigabyte
        network = ARCHITECTURES["convnet"]([config] * members, SIDE, CLASSES)
    assert parameter_count(network, members) == count


def convolution_biases(**fields: Any) -> int:
    layers = one(depth=2, residual=True, **fields).modules()
    return sum(layer.bias is not None for layer in layers if isinstance(layer, Convolution))


def test_a_convolution_has_a_bias_where_asked_for_but_never_under_a_batch_norm() -> None:
    assert convolution_biases(conv_bias=True, batchnorm=False) == 6
    assert convolution_biases(conv_bias=False, batchnorm=False) == 0
    assert convolution_biases(conv_bias=True, batchnorm=True) == 0


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.1),
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}


def plain(config: TrainConfig, state: dict[str, Tensor]) -> nn.Sequential:
    """The network of a config as a user of PyTorch would write it, with the weights of `state`."""
    layers: list[nn.Module] = []
    channels = 1
    for step in range(config.depth):
        width, kernel = config.width * (step + 1), config.kernel_size
        bias = config.conv_bias and not config.batchnorm
        layers.append(nn.Conv2d(channels, width, kernel, padding="same", bias=bias))
        if config.batchnorm:
            layers.append(nn.BatchNorm2d(width))
        layers.append(ACTIVATIONS[config.activation]())
        if step < 2:
            layers.append(nn.MaxPool2d(2) if config.pooling == "max" else nn.AvgPool2d(2))
        channels = width
    side = SIDE >> min(config.depth, 2)
    layers += [nn.Flatten(), nn.Dropout(config.dropout), nn.Linear(channels * side**2, CLASSES)]
    network = nn.Sequential(*layers).to(torch.float64)
    # The same tensors in the same order, under other names.
    network.load_state_dict(dict(zip(network.state_dict(), state.values(), strict=True)))
    return network


@pytest.mark.parametrize("pooling", ["max", "avg"])
@pytest.mark.parametrize("batchnorm", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_one_member_computes_what_the_plain_network_does(
    pooling: str, batchnorm: bool, activation: str
) -> None:
    config = TrainConfig(
        depth=3,
        width=8,
        pooling=pooling,
        batchnorm=batchnorm,
        activation=activation,
        kernel_size=5,
        conv_bias=True,
    )
    network = one(**config.to_dict())
    randomise_norms(network)
    reference = plain(config, network.state_dict()).eval()
    torch.testing.assert_close(network(batch())[:, 0], reference(batch()), rtol=1e-12, atol=1e-12)
    # With the statistics of the batch, and what it leaves in the running ones.
    for module in network.modules():
        if isinstance(module, Dropout):
            module.active = False
    for module in reference.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    network.train()
    reference.train()
    torch.testing.assert_close(network(batch())[:, 0], reference(batch()), rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(
        network.state_dict().values(), reference.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_a_residual_block_adds_its_bottleneck_to_its_input() -> None:
    network = one(depth=1, width=8, residual=True)
    randomise_norms(network)
    step, block = network.get_submodule("steps.step0"), network.get_submodule("steps.residual0")
    x = step(batch())
    half, full = nn.Conv2d(8, 4, 1, bias=False), nn.Conv2d(4, 8, 3, padding=1, bias=False)
    layers = [
        half,
        nn.BatchNorm2d(4),
        nn.LeakyReLU(0.1),
        full,
        nn.BatchNorm2d(8),
        nn.LeakyReLU(0.1),
    ]
    bottleneck = nn.Sequential(*layers).to(torch.float64)
    state = block.state_dict().values()
    bottleneck.load_state_dict(dict(zip(bottleneck.state_dict(), state, strict=True)))
    torch.testing.assert_close(block(x), x + bottleneck.eval()(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_an_activation_after_max_pooling_gives_what_it_gives_before(activation: str) -> None:
    config = TrainConfig(activation=activation, pooling="max", batchnorm=False)
    step = Step(config, 1, 1, 8, kernel=3, pooling="max")
    nn.init.normal_(step.convolution.weight, generator=torch.Generator().manual_seed(0))
    assert step.activate_last
    after = step(batch().float())
    step.activate_last = False
    assert torch.equal(step(batch().float()), after)
    assert (after < 0).any() == (activation == "leaky_relu")


@pytest.mark.parametrize("activation", ["gelu", "silu"])
def test_an_activation_that_also_falls_comes_before_max_pooling(activation: str) -> None:
    config = TrainConfig(activation=activation, pooling="max")
    assert not Step(config, 1, 1, 8, kernel=3, pooling="max").activate_last


@pytest.mark.parametrize("residual", [False, True])
def test_each_member_of_a_bank_computes_what_it_does_alone(residual: bool) -> None:
    configs = [TrainConfig(depth=3, width=8, residual=residual, seed=seed) for seed in (3, 1, 2)]
    bank = build(configs, SIDE, CLASSES).to(torch.float64).eval()
    randomise_norms(bank)
    x = batch(len(configs))
    logits = bank(x)
    for k, config in enumerate(configs):
        alone = one(**config.to_dict())
        state = {
            name: by_member(tensor, len(configs))[k] if tensor.dim() else tensor
            for name, tensor in bank.state_dict().items()
        }
        alone.load_state_dict(state)
        torch.testing.assert_close(alone(x[:, [k]])[:, 0], logits[:, k], rtol=1e-12, atol=1e-12)


def weights(**fields: Any) -> dict[str, Tensor]:
    return build([TrainConfig(**fields)], SIDE, CLASSES).state_dict()


FIRST = "steps.step0.convolution.weight"


@pytest.mark.parametrize(
    "fields",
    [
        {"dropout": 0.5},
        {"pooling": "avg"},
        {"activation": "silu"},
        {"batchnorm": False},
        {"learning_rate": 0.1},
        {"residual": True},
        {"depth": 4},
    ],
)
def test_variants_with_one_seed_start_from_the_same_weights_where_shapes_allow(
    fields: dict[str, Any],
) -> None:
    base, variant = weights(depth=3, seed=5), weights(**{"depth": 3, "seed": 5, **fields})
    convolutions = [f"steps.step{step}.convolution.weight" for step in range(3)]
    classifier = [] if "depth" in fields else ["classifier.weight", "classifier.bias"]
    for name in convolutions + classifier:
        assert torch.equal(base[name], variant[name]), name


def test_different_seeds_and_layers_start_from_different_weights() -> None:
    first, second = weights(seed=0), weights(seed=1)
    for name in (FIRST, "classifier.weight"):
        assert not torch.equal(first[name], second[name])
    residual = weights(depth=4, residual=True, width=8)
    same_shape = [tensor.flatten()[:64] for tensor in residual.values() if tensor.numel() >= 256]
    assert len({tuple(tensor.tolist()) for tensor in same_shape}) == len(same_shape) >= 10


def test_a_member_starts_from_the_same_weights_in_any_bank_and_precision() -> None:
    configs = [TrainConfig(seed=seed, precision="fp64") for seed in (4, 2, 7)]
    bank = build(configs, SIDE, CLASSES)
    for name, tensor in weights(seed=2).items():
        if tensor.dim():
            assert torch.equal(by_member(bank.state_dict()[name], 3)[1], tensor)


def test_weights_start_as_pytorchs_layers_do() -> None:
    ours = one(depth=2, width=64, batchnorm=False, conv_bias=True)
    theirs = [nn.Conv2d(1, 64, 3), nn.Conv2d(64, 128, 3), nn.Linear(128 * 49, CLASSES)]
    layers = [layer for layer in ours.modules() if isinstance(layer, (Convolution, Linear))]
    for layer, reference in zip(layers, theirs, strict=True):
        bound = 1 / layer.fan_in**0.5
        for own, default in zip(layer.parameters(), reference.parameters(), strict=True):
            assert own.shape == default.shape
            assert own.abs().max() <= bound
            assert own.abs().max() > 0.8 * bound
        n = layer.weight.numel()
        assert layer.weight.mean().item() == pytest.approx(0, abs=5 * bound / (3 * n) ** 0.5)
        # A uniform variable's standard deviation is bound / sqrt(3), known to sqrt(1/5n) of it.
        deviation = bound / 3**0.5
        assert layer.weight.std().item() == pytest.approx(deviation, rel=5 / (5 * n) ** 0.5)


def test_building_leaves_the_global_generator() -> None:
    before = torch.get_rng_state()
    weights(depth=4)
    assert torch.equal(torch.get_rng_state(), before)


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


def test_dropout_does_nothing_in_evaluation() -> None:
    layer = Dropout([0.5], [0], "dropout").eval()
    x = torch.ones(2, 1, 5)
    assert layer(x) is x
