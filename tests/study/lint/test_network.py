"""Constants that pixels are normalised with, and layers that do nothing."""

from pathlib import Path

import pytest

from study.lint import lint
from tests.support.linting import examined, found, ours
from trainer.data import ImageData
from trainer.datasets import DATASETS


@pytest.mark.parametrize(
    ("normalization", "factors", "severity"),
    [
        ("0.286/0.126", {}, "error"),
        ("0.29/0.125", {}, "error"),
        ("dataset", {"normalization": ["dataset", "0.286/0.126"]}, "note"),
        ("0.286/0.353", {"normalization": ["0.286/0.353", "0.286/0.126"]}, "note"),
        ("none", {"normalization": ["none", "0.286/0.126"]}, "warning"),
        ("0.285/0.7046", {}, None),
        ("0.5/0.5", {}, None),
        ("none", {}, None),
    ],
)
def test_a_variance_is_told_from_a_standard_deviation(
    normalization: str, factors: dict[str, list[str]], severity: str | None
) -> None:
    baseline = {"normalization": normalization}
    plan = ours(dataset="fashion-mnist", seeds=3, baseline=baseline, factors=factors)
    found_ = [own.severity for own in lint(plan, []) if own.code == "variance-as-std"]
    assert found_ == ([severity] if severity else [])


def test_what_is_known_of_digits_is_what_they_are(digits: ImageData) -> None:
    known = DATASETS["digits"]
    ((mean, std),) = digits.normalisation
    assert [known.mean, known.std] == pytest.approx([mean, std], abs=1e-4)
    sizes = (len(digits.train_labels), len(digits.test_labels), len(digits.classes))
    assert sizes == (known.train_images, known.test_images, len(known.classes))


@pytest.mark.real
def test_what_is_known_of_fashion_mnist_is_what_it_is(fashion_mnist_dir: Path) -> None:
    from trainer.data import load

    data = load("fashion-mnist", fashion_mnist_dir, download=False)
    known = DATASETS["fashion-mnist"]
    assert data.normalisation[0] == pytest.approx((known.mean, known.std), abs=1e-4)


def test_biases_are_found_among_all_combinations() -> None:
    factors = {"architecture": ["resnet_like", "convnet"], "conv_bias": [False, True]}
    plan = ours(design="factorial", seeds=3, factors=factors)
    assert found(lint(plan, []), "bias-under-batchnorm") == [("note", "plan")]
    space = {"trials": 5, "space": {"architecture": ["conv_pairs", "lenet"]}}
    base = {"architecture": "lenet", "conv_bias": True, "batchnorm": True}
    searched = ours(design="search", seeds=3, baseline=base, search=space)
    assert {own.code for own in lint(searched, [])} == {"bias-under-batchnorm", "no-nonlinearity"}


def imported(column: str, level: str, dataset: str | None) -> list[tuple[str, str]]:
    rows = "".join(f'"{level}",{lr},{seed},0.9{seed}\n' for lr in (0.1, 0.2) for seed in range(3))
    text = f"{column},lr,seed,val_acc\n{rows}"
    return found(examined("a.csv", text, dataset=dataset), "variance-as-std")


@pytest.mark.parametrize("column", ["noise_std", "weight std", "init_std", "val_acc_std", "jitter"])
def test_a_deviation_of_other_things_than_pixels_is_no_variance(column: str) -> None:
    assert imported(column, "0.125", "fashion-mnist") == []


@pytest.mark.parametrize("column", ["std", "transform.std", "norm_std", "Pixel Std", "data std"])
def test_a_deviation_of_pixels_is_known_by_its_name(column: str) -> None:
    assert imported(column, "0.1246", "fashion-mnist") == [("error", f"baseline.{column}")]


@pytest.mark.parametrize(
    "level",
    [
        "(0.2860,), (0.1246,)",
        "[0.286], [0.1246]",
        "Normalize((0.286,), (0.1246,))",
        "mean=0.286 std=0.125",
        "0.286 / 0.126",
        "(.286, .286, .286), (.1246, .1246, .1246)",
    ],
)
@pytest.mark.parametrize("dataset", ["fashion-mnist", None])
def test_constants_are_read_however_they_are_written(level: str, dataset: str | None) -> None:
    assert imported("normalize", level, dataset) == [("error", "baseline.normalize")]


@pytest.mark.parametrize(
    ("level", "dataset"),
    [
        ("(0.2860,), (0.3530,)", "fashion-mnist"),
        ("(0.5,), (0.5,)", None),
        ("(0.5,), (0.125,)", None),  # of no data set that is known
        ("0.285, 2 x 0.3523", "fashion-mnist"),
        ("(0.2860,), (0.1246,)", "cifar10"),
        ("v0.286 run 0.1246", None),  # a version is no mean
    ],
)
def test_other_constants_are_no_variances(level: str, dataset: str | None) -> None:
    assert imported("normalize", level, dataset) == []
