"""What a bank would do on a GPU, seen on a GPU of paper: kernels, devices, waits, layouts.

`tests/support/paper` says how. The bounds are upper bounds: kernels must not creep back.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.support.paper.examine import MUTANTS
from tests.support.paper.gpu import compile_into, compiler
from tests.support.trainings import MIXED

Configs = Sequence[Mapping[str, Any]]
Examine = Callable[..., dict[str, Any]]

NETWORKS: list[dict[str, Any]] = [
    {},
    {"depth": 4, "residual": True},
    {"kernel_size": 5, "batchnorm": False, "conv_bias": True},
    {"pooling": "avg", "activation": "prelu"},
    {"architecture": "convnet3", "conv_bias": True},
    {"architecture": "lenet"},
    {"architecture": "vgg_like"},
    {"architecture": "resnet_like"},
    {"architecture": "mobilenet_v2"},
    {"architecture": "toy"},
    {"architecture": "conv_pairs"},
    {"architecture": "resnet18"},
    {"architecture": "resnet20", "stem": "7x7"},
    {"architecture": "resnet32"},
    {"depth": 3, "residual": True, "block": "basic", "head": "gap", "pool_steps": "1+3"},
    {"residual": True, "head": "gap", "squeeze_excite": True},
]
ALL_AUGMENTATIONS = "flip+erase+translate+crop+crop_reflect+rotate+noise"
THREE = "flip+erase+translate"


def bank(members: int, **fields: Any) -> Configs:
    """Configs of a bank whose members differ in their seeds alone."""
    common = {"dataset": "digits", "width": 16, "batch_size": 32, **fields}
    return [{**common, "seed": seed} for seed in range(members)]


def mixed(**fields: Any) -> Configs:
    """Configs of a bank whose members differ in all that they may."""
    common = {"dataset": "digits", "width": 16, "batch_size": 32, **fields}
    return [{**common, **member} for member in MIXED]


def for_accuracy(**fields: Any) -> Configs:
    """Configs of a bank of which each member does something else for its accuracy."""
    each = [{"ema": 0.99}, {"mixup": 0.2}, {"cutmix": 1.0, "nesterov": True}, {}]
    return [{**config, **more} for config, more in zip(mixed(**fields), each, strict=True)]


@pytest.fixture(scope="module")
def examine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Examine]:
    """Examines banks as on CUDA; on meta where nothing compiles what CUDA needs."""
    library = compile_into(tmp_path_factory.mktemp("paper")) if compiler() else None
    yield from examiner(library)


@pytest.fixture(scope="module")
def examine_on_meta() -> Iterator[Examine]:
    """Examines banks as where there is no compiler."""
    yield from examiner(None)


def examiner(library: Path | None) -> Iterator[Examine]:
    """Examine banks in a process of its own, which believes that it has a GPU."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.paper.examine", *([str(library)] if library else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdin is not None
    assert process.stdout is not None
    asked, answers = process.stdin, process.stdout

    @cache
    def answer(case: str) -> dict[str, Any]:
        asked.write(case + "\n")
        asked.flush()
        found: dict[str, Any] = json.loads(answers.readline())
        return found

    yield lambda configs, mutant=None, way="grouped", triton=False: answer(
        json.dumps({"configs": configs, "mutant": mutant, "convolutions": way, "triton": triton})
    )
    process.communicate(timeout=60)  # the end of what is asked ends it
    assert process.returncode == 0


# What is said of each on CUDA, and what on meta where that words it otherwise.
ELSEWHERE = ("same device", "not on the expected device")
READ = ("_local_scalar_dense", "item() cannot be called on meta")
OBJECTIONS = {
    "a tensor that was left on the CPU": ELSEWHERE,
    "the loss is read in every step": READ,
    "a branch that depends on the loss": READ,
    "images chosen by a mask": ("nonzero",),
    "figures go to the host and back": (
        "_to_copy: ['cpu', 'cuda'] together",
        "Cannot copy out of meta",
    ),
    "a constant that is copied from the host": ELSEWHERE,
    "learning rates that Python looks up": READ,
    "gradients in another layout": ("in another layout than its weight",),
    "Adam's counter on the CPU": ("a counter of steps on another device",),
}


@pytest.mark.parametrize("mutant", MUTANTS)
@pytest.mark.parametrize("way", ["examine", "examine_on_meta"])
def test_a_mistake_that_would_break_a_run_on_a_gpu_is_seen(
    request: pytest.FixtureRequest, way: str, mutant: str
) -> None:
    examine = request.getfixturevalue(way)
    assert examine(mixed(precision="fp32"))["objections"] == []
    objections = examine(mixed(precision="fp32"), mutant)["objections"]
    seen = [words in objection for words in OBJECTIONS[mutant] for objection in objections]
    assert any(seen), objections


@pytest.mark.parametrize("precision", ["bf16", "fp32", "fp64"])
@pytest.mark.parametrize("members", ["alone", "alike", "mixed"])
@pytest.mark.parametrize("network", NETWORKS[:3], ids=str)
def test_nothing_is_objected_to(
    examine: Examine, network: dict[str, Any], members: str, precision: str
) -> None:
    optimizer = {"bf16": "adam", "fp32": "sgd", "fp64": "adamw"}[precision]
    fields = {**network, "precision": precision, "optimizer": optimizer}
    lively = {"augmentation": ALL_AUGMENTATIONS, "label_smoothing": 0.1, **fields}
    configs = {"alone": bank(1, **lively), "alike": bank(4, **lively), "mixed": mixed(**fields)}
    seen = examine(configs[members])
    assert seen["objections"] == []
    assert seen["step"] > 0 < seen["validation"]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_nothing_is_objected_to_in_what_is_done_for_accuracy(
    examine: Examine, optimizer: str
) -> None:
    fields = {"optimizer": optimizer, "weight_decay": 0.1, "norm_bias_decay": False}
    seen = examine(for_accuracy(**fields, test_time_flip=True))
    assert seen["objections"] == []
    assert seen["names"]["lerp_"] > 0


@pytest.mark.parametrize("members", ["alone", "alike", "mixed"])
def test_nothing_is_objected_to_without_a_compiler(examine_on_meta: Examine, members: str) -> None:
    test_nothing_is_objected_to(examine_on_meta, NETWORKS[1], members, "bf16")


@pytest.mark.parametrize("way", ["separate", "products"])
def test_nothing_is_objected_to_in_other_ways_to_convolve(
    examine: Examine, examine_on_meta: Examine, way: str
) -> None:
    configs = mixed(depth=3)
    # Streams, on which separate convolutions run, are of real GPUs only.
    seen = (examine_on_meta if way == "separate" else examine)(configs, way=way)
    assert seen["objections"] == []
    assert seen["names"] != examine(configs)["names"]


@pytest.mark.skipif(compiler() is None, reason="this machine has no C++ compiler to compare with")
def test_without_a_compiler_as_many_kernels_are_counted(
    examine: Examine, examine_on_meta: Examine
) -> None:
    configs = bank(16, precision="fp32")  # which casts no weight
    on_cuda, on_meta = examine(configs), examine_on_meta(configs)
    assert 0 <= on_cuda["step"] - on_meta["step"] <= 1  # a copy into cuDNN's layout
    assert on_meta["validation"] == on_cuda["validation"]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "fp32", "fp64"])
@pytest.mark.parametrize("members", ["alone", "alike", "mixed"])
@pytest.mark.parametrize("network", NETWORKS[3:], ids=str)
def test_nothing_is_objected_to_in_other_networks(
    examine: Examine, network: dict[str, Any], members: str, precision: str
) -> None:
    test_nothing_is_objected_to(examine, network, members, precision)


BANK_16 = [{"seed": seed, "learning_rate": 1e-3 * (1 + seed)} for seed in range(16)]
# Configs, kernels of a step and of a validation, and of a step where triton is.
COUNTED: list[tuple[Configs, int, int, int]] = [
    (bank(1), 74, 63, 54),
    (bank(1, augmentation=THREE), 88, 63, 68),
    (bank(1, depth=4), 90, 79, 68),
    (bank(16), 85, 67, 64),
    (bank(16, augmentation=THREE), 99, 67, 78),
    ([{**config, **rate} for config, rate in zip(bank(16), BANK_16, strict=True)], 109, 67, 88),
    (bank(16, depth=4), 101, 83, 78),
    (bank(1, architecture="lenet"), 110, 79, 74),
    (bank(1, architecture="convnet3"), 82, 73, 79),
]


@pytest.mark.parametrize(("configs", "step", "validation", "_"), COUNTED, ids=str)
def test_a_step_starts_no_more_kernels_than_it_did(
    examine: Examine, configs: Configs, step: int, validation: int, _: int
) -> None:
    seen = examine(configs)
    assert seen["objections"] == []
    assert seen["step"] <= step, seen["names"]
    assert seen["validation"] <= validation


needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
needs_compiler = pytest.mark.skipif(
    compiler() is None, reason="this machine has no C++ compiler: on meta no CUDA"
)


@needs_triton
@needs_compiler
@pytest.mark.parametrize(("configs", "step"), [(row[0], row[3]) for row in COUNTED], ids=str)
def test_where_triton_is_a_step_starts_fewer_kernels(
    examine: Examine, configs: Configs, step: int
) -> None:
    seen = examine(configs, triton=True)
    assert seen["objections"] == []
    assert seen["names"]["transformed"] == seen["names"]["transformed_backward"] > 0
    assert seen["step"] <= step, seen["names"]


@needs_triton
@needs_compiler
@pytest.mark.parametrize("network", [{}, *NETWORKS[2:4]], ids=str)
def test_nothing_is_objected_to_where_triton_is(examine: Examine, network: dict[str, Any]) -> None:
    configs = mixed(**network)
    without, seen = examine(configs), examine(configs, triton=True)
    assert seen["objections"] == []
    assert seen["names"]["dropped"] % 2 == 0
    assert seen["step"] < without["step"]


@needs_triton
@needs_compiler
@pytest.mark.parametrize(
    ("configs", "products"),  # forward, and in all layers but the first for the gradient of x
    [
        (bank(16), 3),
        (bank(16, depth=4, kernel_size=5), 7),
        (mixed(batchnorm=False, conv_bias=True), 3),
        (bank(16, architecture="convnet3"), 5),
        (bank(16, architecture="mobilenet_v2"), None),
        (bank(1), 0),
        (bank(16, precision="fp32"), 0),
    ],
    ids=str,
)
def test_convolutions_in_triton_start_no_more_kernels(
    examine: Examine, configs: Configs, products: int | None
) -> None:
    without = examine(configs, triton=True)
    seen = examine(configs, way="triton", triton=True)
    assert seen["objections"] == []
    if products is None:  # of 35 layers, whose gradients PyTorch counts as one call, starts as many
        assert seen["names"]["convolution"] < without["names"]["convolution"]
    else:
        assert seen["step"] <= without["step"], seen["names"]
        assert seen["names"].get("products", 0) == products
