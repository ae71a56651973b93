"""The plans that ship with the package hold what they promise."""

import pytest

from study import catalog
from study.plan import Cell, load_plan
from trainer.config import DATASETS, TrainConfig
from trainer.data import ImageData
from trainer.models import build, parameter_count


def parameters(config: TrainConfig, side: int) -> int:
    return parameter_count(build([config], side, 10), 1)


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("name", catalog.names())
def test_every_plan_fits_every_data_set(name: str, dataset: str) -> None:
    plan = load_plan(name, dataset=dataset)

    assert (plan.name, plan.dataset) == (name, dataset)
    assert plan.description
    assert plan.seeds >= 3  # fewer cannot carry a claim
    for variant in plan.variants:
        config = plan.config_of(Cell(variant, plan.seeds - 1))
        assert parameters(config, 8 if dataset == "digits" else 28) > 0


def test_the_ablation_varies_what_people_ask_about() -> None:
    plan = load_plan("ablation")

    assert set(plan.factors) == {
        "batchnorm",
        "dropout",
        "pooling",
        "batch_size",
        "kernel_size",
        "width",
        "learning_rate",
        "augmentation",
    }
    assert set(plan.factors["augmentation"]) == {
        "none",
        "flip",
        "erase",
        "translate",
        "flip+erase",
        "flip+translate",
        "erase+translate",
        "flip+erase+translate",
    }
    for factor, levels in plan.factors.items():
        assert getattr(plan.base_config, factor) in levels
        assert len(levels) >= 2


@pytest.mark.parametrize("name", catalog.names())
def test_the_baseline_is_the_network_of_50282_parameters(name: str) -> None:
    assert parameters(load_plan(name).base_config, 28) == 50_282


def test_batches_of_the_digits_plan_fit_its_images(digits: ImageData) -> None:
    plan = load_plan("ablation", dataset="digits")
    training = round(len(digits.train_labels) * (1 - plan.base_config.validation_fraction))
    largest = max(plan.config_of(Cell(variant, 0)).batch_size for variant in plan.variants)
    assert largest * 5 < training
