"""Figures and conclusions of others: checked against the plan that they speak of."""

from pathlib import Path
from typing import Any

import pytest

from analysis.trials import connect, studies
from study.plans.plan import Plan
from study.store import location
from tests.support.plans import run, tiny
from trainer.errors import UserError

SOURCE: dict[str, Any] = {
    "name": "someone",
    "url": "https://example.org/theirs",
    "license": "no licence file",
    "selected_on": "test",
    "test_images": 10_000,
    "runs": 0,
    "note": "average of multiple runs",
}
REQUIRED = ("name", "selected_on", "test_images", "runs")


def plan(**changes: Any) -> Plan:
    """Make a plan of two poolings and one listed structure, with figures."""
    listed = {"factor": "structure", "level": "3 Conv", "changes": {"depth": 3}}
    return tiny(**{"variants": [listed], "source": SOURCE, **changes})


def test_figures_belong_to_variants() -> None:
    reported = [
        {"changes": {"pooling": "avg"}, "test_accuracy": 0.92, "parameters": 50_282},
        {"changes": {}, "test_accuracy_range": [0.908, 0.926], "latency_ms": 4, "note": "best"},
        {"changes": {"depth": 3}, "model_bytes": 1_600_000, "seconds": 60.5},
        {"changes": {"depth": 3, "pooling": "max"}, "images_per_second": 2000},
    ]
    own = plan(reported=reported[:3])

    assert own.to_dict()["reported"] == reported[:3]
    assert own.to_dict()["source"] == SOURCE
    with pytest.raises(UserError, match=r"reported.4.changes: depth=3 is reported twice"):
        plan(reported=reported)  # pooling=max is the baseline's


def test_figures_of_a_factorial_name_what_differs_from_the_baseline() -> None:
    factors = {"pooling": ["max", "avg"], "batchnorm": [True, False]}
    cell = {"changes": {"pooling": "avg", "batchnorm": False}, "test_accuracy": 0.92}

    own = plan(design="factorial", factors=factors, variants=[], reported=[cell])

    assert own.to_dict()["reported"] == [
        {"changes": {"batchnorm": False, "pooling": "avg"}, "test_accuracy": 0.92}
    ]


HIT: dict[str, Any] = {"changes": {}, "test_accuracy": 0.9}
BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"source": 3}, "source = 3: must be a table, [source]"),
    ({"source": {"name": "x"}}, "source.selected_on: is missing"),
    ({"source": SOURCE | {"colour": 1}}, "source key = 'colour': choose from name, selected_on"),
    ({"source": SOURCE | {"selected_on": "luck"}}, "source.selected_on = 'luck': choose from test"),
    ({"source": SOURCE | {"test_images": 0}}, "source.test_images = 0: must be a whole number"),
    ({"source": SOURCE | {"runs": -1}}, "source.runs = -1: must be a whole number from 0"),
    (
        {"source": SOURCE | {"url": "javascript:alert(1)"}},
        "source.url = 'javascript:alert(1)': must",
    ),
    ({"source": SOURCE | {"url": "https://a b"}}, "source.url = 'https://a b': must be an address"),
    ({"source": SOURCE | {"license": ""}}, "source.license = '': must be one line of 1 to 1000"),
    ({"source": SOURCE | {"runs": True}}, "source.runs = True: must be a whole number"),
    ({"source": SOURCE | {"name": "a\nb"}}, "source.name = 'a\\nb': must be one line"),
    ({"reported": {"changes": {}}}, "reported = {'changes': {}}: must be an array of tables"),
    ({"reported": [3]}, "reported.1 = 3: must be a table"),
    ({"reported": [HIT | {"accuracy": 1}]}, "reported.1 key = 'accuracy': choose from changes"),
    ({"reported": [{"test_accuracy": 0.9}]}, "reported.1.changes: is missing"),
    ({"reported": [{"changes": {}}]}, "reported.1: has no figure; give one of test_accuracy"),
    ({"reported": [{"changes": {}, "note": "x"}]}, "reported.1: has no figure"),
    ({"reported": [HIT | {"test_accuracy": 92.7}]}, "reported.1.test_accuracy = 92.7: must be a f"),
    ({"reported": [HIT | {"test_accuracy": -0.1}]}, "reported.1.test_accuracy = -0.1"),
    ({"reported": [HIT | {"test_accuracy": float("nan")}]}, "reported.1.test_accuracy = nan"),
    ({"reported": [HIT | {"test_accuracy": True}]}, "reported.1.test_accuracy = True"),
    ({"reported": [HIT | {"test_accuracy": "0.9"}]}, "reported.1.test_accuracy = '0.9'"),
    (
        {"reported": [HIT | {"test_accuracy_range": [0.8, 0.9]}]},
        "reported.1: give test_accuracy or",
    ),
    (
        {"reported": [{"changes": {}, "test_accuracy_range": [0.9, 0.8]}]},
        "reported.1.test_accuracy_range = [0.9, 0.8]: must be [low, high], low below high",
    ),
    (
        {"reported": [{"changes": {}, "test_accuracy_range": [0.9]}]},
        "reported.1.test_accuracy_range = [0.9]: must be [low, high], two fractions",
    ),
    ({"reported": [HIT | {"parameters": 2.0}]}, "reported.1.parameters = 2.0: must be a whole"),
    (
        {"reported": [HIT | {"latency_ms": 0}]},
        "reported.1.latency_ms = 0: must be a number above 0",
    ),
    ({"reported": [HIT | {"seconds": float("inf")}]}, "reported.1.seconds = inf: must be a number"),
    ({"reported": [HIT | {"note": "\x1b"}]}, "reported.1.note = '\\x1b': must be one line"),
    (
        {"reported": [HIT | {"changes": {"colour": 1}}]},
        "reported.1.changes = 'colour': choose from",
    ),
    ({"reported": [HIT | {"changes": {"depth": 0}}]}, "reported.1.changes.depth = 0: must be at"),
    ({"reported": [HIT | {"changes": {"depth": 4}}]}, "reported.1.changes: depth=4 is no variant"),
    ({"reported": [HIT, HIT]}, "reported.2.changes: baseline is reported twice"),
    ({"reported": [HIT], "source": None}, "source = None: must be a table"),
    ({"claims": "x"}, "claims = 'x': must be an array of tables, [[claims]]"),
    ({"claims": [{"best": "avg"}]}, "claims.1.text: is missing"),
    ({"claims": [{"text": "x", "why": "y"}]}, "claims.1 key = 'why': choose from text, factor"),
    ({"claims": [{"text": ""}]}, "claims.1.text = '': must be one line"),
    ({"claims": [{"text": "x", "best": "avg"}]}, "claims.1.factor: is missing; best = 'avg' of"),
    (
        {"claims": [{"text": "x", "factor": "width"}]},
        "claims.1.factor = 'width': choose from pooling, structure",
    ),
    (
        {"claims": [{"text": "x", "factor": "pooling", "best": "min"}]},
        "claims.1.best = 'min': choose from max, avg",
    ),
    ({"claims": [{"text": "x", "factor": "pooling", "best": []}]}, "claims.1.best = []: must be a"),
    (
        {"claims": [{"text": "x", "best": {"pooling": "max", "width": 3}}]},
        "claims.1.best = 'width': choose from pooling, structure",
    ),
    (
        {"claims": [{"text": "x", "best": {"pooling": "min", "structure": "2 Conv"}}]},
        "claims.1.best.pooling = 'min': choose from max, avg",
    ),
    (
        {"claims": [{"text": "x", "best": {"pooling": "max"}}]},
        "claims.1.best = {'pooling': 'max'}: ",
    ),
    (
        {"claims": [{"text": "x", "factor": "pooling", "best": {"pooling": "max", "x": 1}}]},
        "claims.1.factor: best names factors itself",
    ),
    (
        {
            "claims": [
                {"text": "x", "factor": "pooling", "no_effect": True, "among": ["max", "min"]}
            ]
        },
        "claims.1.among = 'min': choose from max, avg",
    ),
    (
        {"claims": [{"text": "x", "factor": "pooling", "no_effect": True, "among": ["max"]}]},
        "claims.1.among = ['max']: must be two levels of the factor or more",
    ),
    (
        {"claims": [{"text": "x", "factor": "pooling", "among": ["max", "avg"]}]},
        "claims.1.among: belongs to one of best, better, worse, no_worse, no_effect",
    ),
    (
        {"claims": [{"text": "x", "factor": "pooling", "best": "max", "negligible": 0.1}]},
        "claims.1.negligible: belongs to no_worse or no_effect",
    ),
    (
        {"claims": [{"text": "x", "factor": "pooling", "no_worse": "max", "negligible": 0}]},
        "claims.1.negligible = 0: must be a number above 0",
    ),
]


@pytest.mark.parametrize(
    ("changes", "message"), BROKEN, ids=[message[:45] for _, message in BROKEN]
)
def test_what_is_wrong_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        plan(**changes)

    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_figures_need_a_source() -> None:
    for key, entry in (("reported", HIT), ("claims", {"text": "x"})):
        with pytest.raises(UserError, match=rf"source: is missing; whose are .* \[\[{key}\]\]\?"):
            tiny(**{key: [entry]})


def test_claims_speak_of_levels_of_any_kind() -> None:
    factors = {"pooling": ["max", "avg"], "batchnorm": [True, False], "dropout": [0.0, 0.5]}
    claims = [
        {"text": "average pooling is best", "factor": "pooling", "best": "avg"},
        {"text": "batch norm helps", "factor": "batchnorm", "best": True},
        {"text": "dropout of a half", "factor": "dropout", "best": 0.5},
        {"text": "three are best", "factor": "structure", "best": "3 Conv"},
        {"text": "pooling has little effect", "factor": "pooling"},
        {"text": "more is not better"},
    ]
    assert plan(factors=factors, claims=claims).to_dict()["claims"] == claims


def test_nobody_reports_on_a_search() -> None:
    search = {"design": "search", "factors": {}, "search": {"space": {"width": [4, 8]}}}
    with pytest.raises(UserError, match=r"reported.1.changes: baseline is no variant"):
        tiny(**search, source=SOURCE, reported=[HIT])


def test_figures_remember_the_epochs_they_were_planned_with() -> None:
    variants = [{"factor": "training", "level": "long", "changes": {"epochs": 40}}]
    reported = [HIT, {"changes": {"epochs": 40}, "test_accuracy": 0.94}]
    own = tiny(variants=variants, epochs=15, source=SOURCE, reported=reported)
    assert [entry.get("epochs") for entry in own.to_dict()["reported"]] == [None, None]
    shorter = own.override(epochs=2).override(epochs=3).to_dict()["reported"]
    assert [(entry["changes"], entry["epochs"]) for entry in shorter] == [({}, 15), ({}, 40)]


def test_a_stored_study_goes_on_when_its_source_gets_another_name(tmp_path: Path) -> None:
    """Whose figures are carried along is no part of a study's identity."""
    file = tmp_path / "a.db"
    run(plan(source={key: SOURCE[key] for key in REQUIRED} | {"name": "old"}), file)

    state = run(plan(), file)

    (study,) = studies(connect(location.locate(str(file))))
    assert (state.done, state.failed) == (study.trial_count, 0)
    assert study.trial_count == plan().trial_count
    assert study.plan["source"] == SOURCE
