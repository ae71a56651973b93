"""What a plan's reader should know of it first."""

from typing import Any

import pytest

from study.plans import catalog
from study.plans.plan import Plan, load_plan
from study.plans.remarks import remarks


def search(seeds: int = 1, **table: Any) -> Plan:
    values = {"name": "s", "design": "search", "dataset": "digits", "seeds": seeds, "epochs": 2}
    return Plan.from_dict({**values, "search": {"trials": 20, **table}})


RATE = {"learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}}


@pytest.mark.parametrize("name", catalog.names())
def test_the_catalogue_needs_no_remark(name: str) -> None:
    assert remarks(load_plan(name)) == []


def test_levels_that_nothing_reads() -> None:
    values = {"name": "p", "dataset": "digits", "factors": {"patience": [2, 4]}}
    (remark,) = remarks(Plan.from_dict(values))
    assert remark.startswith("patience = ")


def test_a_range_that_ends_before_its_end() -> None:
    (first, _) = remarks(search(space={"dropout": {"low": 0.0, "high": 0.5, "step": 0.3}}))
    assert first == "search.space.dropout: steps of 0.3 from 0 end at 0.3, not at 0.5"
    assert remarks(search(space={**RATE, "dropout": {"low": 0.0, "high": 0.6, "step": 0.3}})) == []


@pytest.mark.parametrize("seeds", [1, 2, 4])
def test_wilcoxon_with_few_seeds(seeds: int) -> None:
    (remark,) = remarks(search(seeds=seeds, pruner="wilcoxon", space=RATE))
    assert "it needs 5" in remark


def test_wilcoxon_acts_from_5_seeds_on() -> None:
    assert remarks(search(seeds=5, pruner="wilcoxon", space=RATE)) == []


def test_a_space_with_fewer_points_than_trials() -> None:
    (remark,) = remarks(search(space={"pooling": ["max", "avg"]}))
    assert remark == "search.space: has 2 points in all; each is tried once"


def test_a_factor_without_a_level_to_compare_is_named() -> None:
    values = {"name": "p", "baseline": {"width": 8}, "factors": {"width": [8], "depth": [1, 2]}}
    expected = "factors.width: has no level but 8, so that nothing is compared"
    assert remarks(Plan.from_dict(values)) == [expected]
    assert remarks(Plan.from_dict({**values, "factors": {"width": [16]}})) == []
    factorial = {**values, "design": "factorial", "factors": {"width": [16], "depth": [1, 2]}}
    assert "no level but 16" in remarks(Plan.from_dict(factorial))[0]
