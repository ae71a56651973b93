"""Levels that a run leaves out of its plan."""

import pytest

from study.plans.plan import load_plan
from trainer.errors import UserError


def test_levels_are_left_out_with_what_is_said_of_them() -> None:
    whole = load_plan("structure")
    plan = load_plan("structure", without=["width=128", "width=512", "augmentation=flip"])
    labels = {variant.label for variant in whole.variants}
    left = {variant.label for variant in plan.variants}
    assert labels - left == {
        "width=128 residual=true", "width=512 residual=true", "augmentation=flip",
    }  # fmt: skip
    assert [row.level for row in plan.listed if row.factor == "width"] == [32, 64]
    assert len(whole.figures.reported) - len(plan.figures.reported) == 3
    assert plan.figures.claims
    assert plan.identity != whole.identity


def test_a_level_of_a_factorial_takes_all_its_cells_along() -> None:
    plan = load_plan("pooling", without=["batch_size=32"])
    assert len(plan.variants) == 16
    assert len(plan.figures.reported) == 16


def test_a_factor_without_levels_is_none() -> None:
    plan = load_plan("ablation", without=["pooling=avg"])
    assert [variant.label for variant in plan.variants if "pooling" in variant.label] == []


@pytest.mark.parametrize(
    ("plan", "level", "message"),
    [
        ("structure", "wdth=32", "without = 'wdth': choose from"),
        ("structure", "width=33", "without width = '33': choose from 32, 64, 128, 512"),
        ("structure", "width", "without width = '': choose from"),
        ("structure", "kernel_size=3", "is the baseline's, which others are compared with"),
        ("search", "depth=2", "a search has a space"),
    ],
)
def test_what_is_not_there_cannot_be_left_out(plan: str, level: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_plan(plan, without=[level])
