"""The rules that study, trainer and analysis share."""

import pytest

from fmnist_common import ablation_path
from fmnist_common.ablation_path import target
from fmnist_common.checksums import trial_checksum
from fmnist_common.designs import is_settled, variant_key
from fmnist_common.text import duration, level_text, variant_label


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.84, "0.8 s"), (9.94, "9.9 s"), (9.96, "10 s"), (45, "45 s"), (59.6, "1 min 00 s"),
        (200, "3 min 20 s"), (3600, "1 h 00 min"), (7500, "2 h 05 min"),
        (3.7e6, "1,027 h 46 min"),
    ],
)  # fmt: skip
def test_durations_are_written_one_way(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_levels_are_written_as_in_a_plan_and_never_alike() -> None:
    assert [level_text(level) for level in (None, True, 1, 1.0, 1e-3, "avg")] == [
        "none", "true", "1", "1", "0.001", "avg"
    ]  # fmt: skip
    assert level_text(0.1 + 0.2) != level_text(0.3)
    assert variant_label({"depth": 2, "residual": True}) == "depth=2 residual=true"
    assert variant_label({}) == "baseline"


def test_a_variant_is_known_by_its_changes_in_any_order_and_of_any_kind() -> None:
    assert variant_key({"a": 1, "b": [2]}) == variant_key({"b": [2], "a": 1.0})
    assert variant_key({"a": 1}) != variant_key({"a": True})


def test_a_checksum_is_that_of_the_trials_already_stored() -> None:
    values, params = [(0.5, "FINITE")], {"width": (4.0, '{"name": "x"}')}
    steps, attributes = {1: (0.25, "FINITE")}, {"seed": "0", "checksum": '"ab"'}
    checksum = trial_checksum(3, "COMPLETE", values, params, steps, attributes)
    assert checksum == "6891e2f0bc1e4a5fe68870290492ab79eaf21a052f2e98fddf10303c12f7fd18"
    assert trial_checksum(3, "COMPLETE", values, params, steps, {"seed": "0"}) == checksum


def test_what_diverged_is_settled_and_what_crashed_is_not() -> None:
    assert is_settled("FAIL", "diverged")
    assert not is_settled("FAIL", "crashed")
    assert not is_settled("RUNNING", None)


def test_the_path_takes_the_best_addition_until_one_is_not_settled() -> None:
    means = {"": 0.5, "a": 0.6, "b": 0.55, "c": 0.4, "ab": 0.7}

    def mean(changes: ablation_path.Changes) -> float | None:
        return means.get("".join(sorted(changes)))

    def is_known(changes: ablation_path.Changes) -> bool:
        return "".join(sorted(changes)) in means

    end = target({"a": [1], "b": [1], "c": [1]}, mean)
    assert end == {"a": 1, "b": 1}
    assert [step.best for step in ablation_path.steps(end, mean, is_known)] == [("a", 1), ("b", 1)]
    del means["ab"]
    first, second = ablation_path.steps(end, mean, is_known)
    assert (first.best, second.settled, second.best) == (("a", 1), False, None)
