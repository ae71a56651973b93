"""The networks: their sizes, where they start, and what each member of a bank computes."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.networks import CLASSES, SIDE, batch, one, wear_in
from trainer.architectures import ARCHITECTURES
from trainer.bank import Bank
from trainer.config import ARCHITECTURE_FIELDS, TrainConfig
from trainer.data import ImageData
from trainer.datasets import DATASETS
from trainer.errors import UserError
from trainer.layers import Convolution, Dropout, Linear, by_member
from trainer.models import build, describe, parameter_count

EVERY = pytest.mark.parametrize("architecture", ARCHITECTURE_FIELDS)


@EVERY
def test_every_architecture_of_the_configs_is_built(architecture: str) -> None:
    assert callable(ARCHITECTURES[architecture].builder())


def test_the_shapes_of_the_data_sets_are_known_without_reading_them(digits: ImageData) -> None:
    assert DATASETS["digits"].shape == digits.shape
    for dataset in DATASETS.values():
        assert dataset.shape == (28 if dataset.files else 8, 10, 1)


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
        # One slope for each of four steps and for the two activations of each residual block.
        ({"depth": 4, "activation": "prelu"}, 247_978 + 4),
        ({"depth": 4, "activation": "prelu", "residual": True}, 402_538 + 12),
        # The LeNet notebook: 4.36 MB in fp32.
        ({"architecture": "lenet"}, 1_089_046),
        # plscoggers/fashion-mnist.
        ({"architecture": "convnet3", "width": 64, "conv_bias": True}, 393_610),
        (
            {"architecture": "convnet3", "width": 64, "conv_bias": True, "batchnorm": False},
            392_714,
        ),
        # serge-m/code-training.
        ({"architecture": "vgg_like", "conv_bias": True}, 6_494_570),
        ({"architecture": "resnet_like", "conv_bias": True}, 2_780_810),
        # Its stem: 49 instead of 9 weights for 64 channels, and no bias; no projection behind it.
        (
            {"architecture": "resnet_like", "conv_bias": True, "stem": "7x7"},
            2_780_810 + 39 * 64 - (64 * 64 + 2 * 64),
        ),
        ({"architecture": "mobilenet_v2"}, 680_202),
        # shihvictor/LearnPytorchFashionMNIST.
        ({"architecture": "toy"}, 39_358),
        ({"architecture": "conv_pairs", "conv_bias": True, "batchnorm": False}, 25_993_898),
        ({"architecture": "conv_pairs", "conv_bias": True}, 25_994_986),
        ({"architecture": "resnet18"}, 11_175_370),
        # 272K and 467K of the references.
        ({"architecture": "resnet20"}, 272_186),
        ({"architecture": "resnet32"}, 466_618),
    ],
)
def test_the_networks_have_the_exact_parameter_counts_of_the_projects(
    fields: dict[str, Any], count: int
) -> None:
    assert describe(TrainConfig(**fields), SIDE, CLASSES).parameters == count


@EVERY
def test_a_network_has_the_described_parameters_per_member(architecture: str) -> None:
    config = TrainConfig(architecture=architecture, width=8)
    bank = build([config, config.replace(seed=1)], 8, CLASSES)
    assert parameter_count(bank, 2) == describe(config, 8, CLASSES).parameters


@pytest.mark.parametrize(
    ("fields", "billions"),
    [
        ({"architecture": "toy"}, 0.00332),
        ({"architecture": "conv_pairs", "conv_bias": True, "batchnorm": False}, 16.02),
        ({"architecture": "conv_pairs", "conv_bias": True}, 16.02),
        ({"architecture": "resnet18"}, 2.11),
    ],
)
def test_multiply_adds_are_those_that_shihvictor_printed_for_batches_of_64(
    fields: dict[str, Any], billions: float
) -> None:
    multiply_adds = describe(TrainConfig(**fields), SIDE, CLASSES).multiply_adds
    assert multiply_adds is not None
    counted = 64 * multiply_adds / 1e9
    assert float(f"{counted:.3g}" if billions < 1 else f"{counted:.2f}") == billions


def test_multiply_adds_follow_the_output_shapes_and_count_every_parameter() -> None:
    size = describe(TrainConfig(depth=1, width=4, conv_bias=True, activation="prelu"), 28, 10)
    # 4 filters of 3x3 at 28x28 pixels; batch norm, slope and classifier once per image.
    assert size.multiply_adds == 4 * 9 * 784 + 2 * 4 + 1 + (4 * 14 * 14 * 10 + 10)
    assert size.parameters == 4 * 9 + 2 * 4 + 1 + (4 * 14 * 14 * 10 + 10)


def test_describing_takes_no_memory_and_no_random_numbers() -> None:
    before = torch.get_rng_state()
    # 36 GB of weights, if it had any.
    size = describe(TrainConfig(depth=16, width=512, kernel_size=5), SIDE, CLASSES)
    assert size.parameters > 8.9e9
    assert torch.equal(torch.get_rng_state(), before)


def outputs(config: TrainConfig) -> list[Tensor]:
    """Every weight of a new network, and its logits for some digits in training."""
    network = build([config], 8, CLASSES)
    for module in network.modules():
        if isinstance(module, Dropout):
            module.step = torch.tensor(0, dtype=torch.int32)
    logits = network.train()(batch(side=8).float())
    return [*network.state_dict().values(), logits]


OTHER: dict[str, Any] = {
    "depth": 3,
    "width": 6,
    "kernel_size": 5,
    "batchnorm": False,
    "conv_bias": True,
    "dropout": 0.6,
    "pooling": "avg",
    "activation": "gelu",
    "residual": True,
    "stem": "7x7",
    "head": "gap",
    "pool_steps": "1+3",
    "block": "basic",
    "squeeze_excite": True,
}


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return len(first) == len(second) and all(map(torch.equal, first, second))


@EVERY
def test_an_architecture_reads_the_fields_that_it_says_and_no_others(architecture: str) -> None:
    config = TrainConfig(architecture=architecture, width=4)
    if architecture == "convnet":
        # Under batch norm there is no conv bias to see, and without residuals no block.
        config = config.replace(batchnorm=False, residual=True)
    standard = outputs(config)
    reads = ARCHITECTURE_FIELDS[architecture]
    others = {name: value for name, value in OTHER.items() if name not in reads}
    assert same(outputs(config.replace(**others)), standard)
    for name in reads - {"pretrained"}:
        value = OTHER[name]
        changed = config.replace(**{name: not value if getattr(config, name) == value else value})
        assert not same(outputs(changed), standard), name


def test_a_new_name_or_a_changed_shape_is_a_difference() -> None:
    assert same([torch.ones(2)], [torch.ones(2)])
    assert not same([torch.ones(2)], [torch.ones(3)])
    assert not same([torch.ones(2)], [torch.ones(2), torch.ones(1)])


MEMBERS = [
    {"seed": 3, "dropout": 0.0, "augmentation": "flip+noise"},
    {"seed": 1, "dropout": 0.5, "normalization": "none", "learning_rate": 0.02},
    {"seed": 2, "dropout": 0.2, "normalization": "0.286/0.126", "weight_decay": 0.01},
]


@pytest.mark.parametrize(
    ("architecture", "activation"),
    [
        pytest.param(name, activation, marks=pytest.mark.slow if name == "resnet18" else ())
        for name, fields in ARCHITECTURE_FIELDS.items()
        for activation in ("relu", "prelu")
        if activation == "relu" or "activation" in fields
    ],
)
def test_a_member_of_a_bank_trains_as_it_does_alone_to_1e_10(
    digits: ImageData, architecture: str, activation: str
) -> None:
    assert_trains_alike(digits, architecture=architecture, activation=activation)


# A network of few parameters: no pixel has a weight of its own in its head.
SMALL: dict[str, Any] = {"head": "gap", "pool_steps": "1+3", "squeeze_excite": True, "depth": 3}
BLOCKS: tuple[dict[str, Any], ...] = ({"residual": True, "block": "basic"}, {"residual": True}, {})


@pytest.mark.parametrize("blocks", BLOCKS, ids=str)
def test_a_member_of_a_bank_of_small_networks_trains_as_it_does_alone(
    digits: ImageData, blocks: dict[str, Any]
) -> None:
    assert_trains_alike(digits, **SMALL, **blocks)


def assert_trains_alike(digits: ImageData, **fields: Any) -> None:
    common = {"width": 4, "epochs": 1, "precision": "fp64", "batch_size": 8, **fields}
    common |= {"optimizer": "sgd", "learning_rate": 0.05}
    configs = [TrainConfig.from_dict({**common, **member}) for member in MEMBERS]
    together = Bank(configs, digits, torch.device("cpu"))
    together.network.train()
    order = together.order(1)[:3]
    fused = torch.stack([together.train_step(i, batch) for i, batch in enumerate(order)])
    for k, config in enumerate(configs):
        alone = Bank([config], digits, torch.device("cpu"))
        alone.network.train()
        single = [alone.train_step(i, batch) for i, batch in enumerate(order[..., [k]])]
        assert (fused[:, 0, k] - torch.stack(single)[:, 0, 0]).abs().max() < 1e-10
        for name, tensor in alone.state(0).items():
            torch.testing.assert_close(together.state(k)[name], tensor, rtol=1e-9, atol=1e-10)


@EVERY
def test_each_member_of_a_bank_computes_what_it_does_alone(architecture: str) -> None:
    configs = [
        TrainConfig(architecture=architecture, width=4, seed=seed, residual=True, depth=3)
        for seed in (3, 1)
    ]
    bank = build(configs, SIDE, CLASSES).to(torch.float64).eval()
    wear_in(bank)
    x = batch(len(configs))
    logits = bank(x)
    assert not torch.allclose(logits[:, 0], logits[:, 1])
    for k, config in enumerate(configs):
        alone = one(**config.to_dict())
        state = {
            name: by_member(tensor, len(configs))[k] if tensor.dim() else tensor
            for name, tensor in bank.state_dict().items()
        }
        alone.load_state_dict(state)
        torch.testing.assert_close(alone(x[:, [k]])[:, 0], logits[:, k], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("fields", "side", "message"),
    [
        (
            {"depth": 2},
            3,
            "depth = 2, pool_steps = '1\\+2': images of 3 pixels cannot pool so often",
        ),
        ({"depth": 9, "pool_steps": "1+2+3"}, 7, "images of 7 pixels cannot pool so often"),
        ({"architecture": "convnet3"}, 7, "architecture = 'convnet3': images of 7 pixels"),
        ({"architecture": "lenet"}, 3, "architecture = 'lenet': images of 3 pixels"),
        ({"architecture": "toy"}, 4, "architecture = 'toy': images of 4 pixels"),
    ],
)
def test_images_too_small_for_a_network_are_a_users_error(
    fields: dict[str, Any], side: int, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        describe(TrainConfig(**fields), side, CLASSES)
    assert describe(TrainConfig(**fields), side + 1, CLASSES).parameters > 0


def test_a_single_image_per_batch_under_batch_norm_is_a_users_error(digits: ImageData) -> None:
    bank = Bank([TrainConfig(architecture="vgg_like", batch_size=1)], digits, torch.device("cpu"))
    bank.network.train()
    with pytest.raises(UserError, match="batch_size = 1: batch norm"):
        bank.train_step(0, bank.order(1)[0])


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
        {"pool_steps": "1+3"},
        {"squeeze_excite": True},
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


@EVERY
def test_every_weight_starts_equal_in_variants_that_keep_its_shape(architecture: str) -> None:
    config = TrainConfig(architecture=architecture, width=4)
    base = build([config], 8, CLASSES).state_dict()
    keeping = {"batchnorm", "conv_bias", "dropout", "pooling", "activation"}
    for field in keeping & ARCHITECTURE_FIELDS[architecture]:
        variant = build([config.replace(**{field: OTHER[field]})], 8, CLASSES).state_dict()
        for name, tensor in base.items():
            if name.endswith("weight") and tensor.dim() > 1:
                assert torch.equal(variant[name], tensor), (field, name)


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
