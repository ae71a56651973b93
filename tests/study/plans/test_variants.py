"""Listed variants: rows of several changes, compared with a variant of their own choice."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import trials as stored
from study.plans.plan import BASELINE, Plan, Row, Variant, load_plan
from study.plans.variants import VARIANT_FIELDS
from study.store import location
from tests.support.plans import run, tiny
from trainer.errors import UserError

DEEP: dict[str, Any] = {"factor": "structure", "level": "2 Conv", "changes": {"depth": 2}}
RESIDUAL: dict[str, Any] = {
    "factor": "structure",
    "level": "1 Conv + residual",
    "changes": {"residual": True, "width": 4},
}
WIDE: dict[str, Any] = {
    "factor": "width",
    "level": 8,
    "changes": {"width": 8, "residual": True},
    "against": {"residual": True},
}


def plan(*variants: dict[str, Any], **changes: Any) -> Plan:
    """Make a tiny plan of one convolution, 4 channels wide, that lists variants."""
    baseline = {"depth": 1, "width": 4, "batch_size": 32, "precision": "fp32"}
    return tiny(baseline=baseline, factors={}, variants=list(variants), **changes)


def test_listed_rows_follow_those_of_the_factors() -> None:
    own = tiny(
        baseline={"depth": 1, "width": 4, "batch_size": 32},
        factors={"pooling": ["max", "avg"]},
        variants=[DEEP, RESIDUAL, WIDE],
    )

    deep, residual = Variant((("depth", 2),)), Variant((("residual", True),))
    wide = Variant((("width", 8), ("residual", True)))
    assert own.rows == (
        Row(None, None, BASELINE),
        Row("pooling", "avg", Variant((("pooling", "avg"),))),
        Row("structure", "2 Conv", deep),
        Row("structure", "1 Conv + residual", residual),  # its width is the baseline's
        Row("width", 8, wide, residual),
    )
    assert own.variants == tuple(row.variant for row in own.rows)
    assert own.rows[-1].variant.label == "width=8 residual=true"
    assert own.tables == {
        "pooling": ("max", "avg"),
        "structure": ("2 Conv", "1 Conv + residual"),
        "width": (8,),
    }


def test_rows_of_one_config_share_its_trials() -> None:
    one = {"factor": "structure", "level": "1 Conv", "changes": {"depth": 1}}
    same = {"factor": "depth", "level": 2, "changes": {"depth": 2}}

    own = plan(one, DEEP, same)

    assert [row.variant.label for row in own.rows] == ["baseline", "baseline", "depth=2", "depth=2"]
    assert own.variant_count == 2
    assert len(own.cells) == 4


def test_a_variant_may_train_for_its_own_number_of_epochs() -> None:
    longer = {"factor": "budget", "level": "3 epochs", "changes": {"epochs": 3, "depth": 2}}
    own = plan(DEEP, longer, source=SOURCE, reported=[{"changes": {"epochs": 3, "depth": 2}} | HIT])

    assert [own.config_of(cell).epochs for cell in own.cells[:3]] == [1, 1, 3]
    assert own.epoch_counts == (1, 3)
    assert own.variants[-1].label == "depth=2 epochs=3"

    level = own.override(epochs=2)  # for all of them alike

    assert level.epoch_counts == (2,)
    assert [variant.label for variant in level.variants] == ["baseline", "depth=2"]
    assert [row.level for row in level.rows] == [None, "2 Conv", "3 epochs"]
    assert level.figures.reported[0]["changes"] == {"depth": 2}
    assert level.conditions != own.override(epochs=1).conditions != own.conditions


SOURCE: dict[str, Any] = {"name": "x", "selected_on": "test", "test_images": 10_000, "runs": 1}
HIT: dict[str, Any] = {"test_accuracy": 0.93}


def test_two_experiments_that_epochs_alone_told_apart_keep_their_figures() -> None:
    longer = {"factor": "budget", "level": "3 epochs", "changes": {"epochs": 3}}
    shorter = {"factor": "budget", "level": "1 epoch", "changes": {}}
    reported = [{"changes": {"epochs": 3}, "test_accuracy": 0.93}, {"changes": {}} | HIT]

    level = plan(longer, shorter, source=SOURCE, reported=reported).override(epochs=1)

    assert len(level.figures.reported) == 2
    assert Plan.from_dict(level.to_dict()).to_dict() == level.to_dict()


def test_a_plan_with_variants_survives_json() -> None:
    own = plan(DEEP, RESIDUAL, WIDE, source=SOURCE, reported=[{"changes": {"depth": 2}} | HIT])

    again = Plan.from_dict(json.loads(json.dumps(own.to_dict(), allow_nan=False)))

    assert again.rows == own.rows
    assert again.to_dict() == own.to_dict()
    assert again.hash == own.hash
    assert own.to_dict()["variants"][2] == WIDE
    assert own.to_dict()["variants"][1]["changes"] == {"residual": True}  # what differs


def test_which_variants_there_are_belongs_to_the_identity() -> None:
    own = plan(DEEP, RESIDUAL, WIDE)

    assert own.hash != plan(DEEP, RESIDUAL).hash
    assert plan(DEEP).hash != plan(DEEP | {"changes": {"depth": 1}}).hash == plan().hash
    assert plan(DEEP, RESIDUAL).hash == plan(RESIDUAL, DEEP).hash


def test_how_rows_are_named_and_compared_does_not() -> None:
    own = plan(DEEP, RESIDUAL)
    renamed = DEEP | {"factor": "depth", "level": 2}
    moved = RESIDUAL | {"against": {"depth": 2}}

    assert plan(renamed, moved).hash == own.hash
    assert plan(DEEP, RESIDUAL, source=SOURCE, claims=[{"text": "deep is best"}]).hash == own.hash


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (3, "variants.1 = 3: must be a table"),
        (DEEP | {"colour": 1}, "variants.1 key = 'colour': choose from factor, level, changes"),
        ({"factor": "a", "level": 1}, "variants.1.changes: is missing"),
        (DEEP | {"factor": 3}, "variants.1.factor = 3: must be one line"),
        (DEEP | {"factor": ""}, "variants.1.factor = '': must be one line"),
        (DEEP | {"level": "a\x1b[2J"}, "variants.1.level = 'a\\x1b[2J': must be one line"),
        (DEEP | {"level": "\u202e"}, "variants.1.level = '\\u202e': must be one line"),
        (DEEP | {"level": float("nan")}, "variants.1.level = nan: must be a string, a finite"),
        (DEEP | {"level": [1]}, "variants.1.level = [1]: must be a string, a finite"),
        (DEEP | {"changes": [1]}, "variants.1.changes = [1]: must be a table"),
        (DEEP | {"changes": {"seed": 1}}, "variants.1.changes = 'seed': choose from arch"),
        (DEEP | {"changes": {"subset": 50}}, "variants.1.changes = 'subset': choose from"),
        (DEEP | {"changes": {"depth": "2"}}, "variants.1.changes.depth = '2': must be a whole"),
        (DEEP | {"changes": {"depth": True}}, "variants.1.changes.depth = True: must be a whole"),
        (DEEP | {"against": {"depth": 0}}, "variants.1.against.depth = 0: must be at least 1"),
        (DEEP | {"against": {"width": 8}}, "variants.1.against = {'width': 8}: names no variant"),
    ],
)
def test_a_malformed_row_is_refused_naming_entry_and_key(entry: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        plan(entry)

    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_one_level_is_listed_once() -> None:
    with pytest.raises(UserError, match=r"variants.2: level '2 Conv' of structure is listed twice"):
        plan(DEEP, DEEP)
    clash = DEEP | {"factor": "pooling", "level": "avg"}
    with pytest.raises(UserError, match=r"variants.1: level 'avg' of pooling is listed twice"):
        tiny(factors={"pooling": ["max", "avg"]}, variants=[clash])
    with pytest.raises(UserError, match=r"variants.2: level '1' of a is listed twice"):
        plan(DEEP | {"factor": "a", "level": 1}, DEEP | {"factor": "a", "level": "1"})


def test_only_an_ablation_lists_variants() -> None:
    with pytest.raises(UserError, match="variants: belong to design = 'ablation' only"):
        plan(DEEP, design="factorial")
    with pytest.raises(UserError, match=r"variants = 3: must be an array of tables, \[\[variants"):
        tiny(variants=3)


def test_what_the_network_does_not_read_cannot_be_varied() -> None:
    message = "factors.depth: is not read by lenet; it is by convnet$"
    with pytest.raises(UserError, match=message):
        tiny(baseline={"architecture": "lenet"}, factors={"depth": [1, 2]})
    lenet = {"factor": "net", "level": "lenet", "changes": {"architecture": "lenet", "depth": 3}}
    with pytest.raises(UserError, match=r"variants.1.changes.depth: is not read by lenet"):
        plan(lenet)
    space = {"search": {"space": {"architecture": ["lenet", "toy"], "depth": [1, 2]}}}
    with pytest.raises(UserError, match=r"search.space.depth: is not read by lenet, lenet, toy"):
        tiny(baseline={"architecture": "lenet"}, factors={}, design="search", **space)
    # Crossed with an architecture that does read it, it may stand.
    both = {"architecture": ["lenet", "convnet"], "depth": [1, 2]}
    tiny(baseline={"architecture": "lenet"}, factors=both, design="factorial")
    # What does not belong to the network is everybody's.
    tiny(baseline={"architecture": "lenet"}, factors={"learning_rate": [1e-3, 1e-2]})


TOML = """
name = "x"
epochs = 9
[baseline]
depth = 1
[[variants]]
factor = "structure"
level = "2 Conv"
changes = { depth = 2, epochs = 20 }
[[variants]]
factor = "structure"
level = "2 Conv, shorter"
changes = { depth = 2 }
against = { depth = 2, epochs = 20 }
[source]
name = "somebody"
selected_on = "test"
test_images = 10000
runs = 1
[[reported]]
changes = { depth = 2, epochs = 20 }
test_accuracy = 0.93
[[claims]]
text = "two are better"
[datasets.digits]
epochs = 2
[[datasets.mnist.variants]]
factor = "structure"
level = "3 Conv"
changes = { depth = 3, epochs = 4 }
"""


def test_a_table_of_a_data_set_levels_the_epochs_or_lists_other_variants(tmp_path: Path) -> None:
    file = tmp_path / "plan.toml"
    file.write_text(TOML, encoding="utf-8")

    own = load_plan(str(file))
    assert [variant.label for variant in own.variants] == [
        "baseline",
        "depth=2 epochs=20",
        "depth=2",
    ]
    digits = load_plan(str(file), dataset="digits")
    assert [variant.label for variant in digits.variants] == ["baseline", "depth=2"]
    assert digits.epoch_counts == (2,)
    mnist = load_plan(str(file), dataset="mnist")
    assert [variant.label for variant in mnist.variants] == ["baseline", "depth=3 epochs=4"]
    assert load_plan(str(file), dataset="kmnist").variants == own.variants


def test_figures_stay_with_the_data_set_that_they_are_of(tmp_path: Path) -> None:
    file = tmp_path / "plan.toml"
    mnist = '[datasets.mnist.source]\nname = "y"\nselected_on = "test"\ntest_images = 10\nruns = 0'
    file.write_text(TOML + mnist, encoding="utf-8")
    keys = {"source", "reported", "claims"}

    own = load_plan(str(file), dataset="fashion-mnist")
    assert own.to_dict().keys() >= keys
    assert own.to_dict() == load_plan(str(file)).to_dict()
    assert not load_plan(str(file), dataset="digits").to_dict().keys() & keys
    assert not own.override(dataset="kmnist").to_dict().keys() & keys
    theirs = load_plan(str(file), dataset="mnist").to_dict()
    assert theirs["source"]["name"] == "y"
    assert "reported" not in theirs


def test_listed_variants_run_and_go_on(tmp_path: Path) -> None:
    file = tmp_path / "studies.db"
    longer = {"factor": "budget", "level": "2 epochs", "changes": {"epochs": 2}}
    own = plan(DEEP, WIDE, RESIDUAL, longer, seeds=1)

    state = run(own, file)

    assert (state.planned, state.done, state.failed) == (5, 5, 0)
    engine = stored.connect(location.locate(str(file)))
    (study,) = stored.studies(engine)
    trials = stored.trials(engine, study.id)
    assert [trial.variant for trial in trials] == [own.label for own in own.variants]
    assert [trial.changes for trial in trials] == [dict(own.changes) for own in own.variants]
    assert [trial.epochs for trial in trials] == [1, 1, 1, 1, 2]
    wide = {"depth": 1, "width": 8, "residual": True, "epochs": 1}
    assert trials[2].params == wide  # of every field that varies
    assert Plan.from_dict(study.plan).to_dict() == own.to_dict()

    more = run(own.override(seeds=2), file)
    assert (more.planned, more.done) == (10, 10)
    assert len(stored.trials(engine, study.id)) == 10


def test_a_variant_of_very_many_changes_has_a_file_for_its_weights(tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "width": 5,
        "kernel_size": 1,
        "batchnorm": False,
        "conv_bias": True,
        "dropout": 0.123456789,
        "pooling": "avg",
        "activation": "relu",
        "residual": True,
        "optimizer": "adamw",
        "learning_rate": 0.00123456789,
        "weight_decay": 0.00012345678,
        "schedule": "exponential",
        "exponential_factor": 0.98765432,
        "label_smoothing": 0.0123456,
        "augmentation": "flip+erase+translate+crop+rotate",
    }
    many = {"factor": "recipe", "level": "everything", "changes": changes}
    own = plan(many, seeds=1)
    assert len(own.variants[1].label) > 255

    state = run(own, tmp_path / "studies.db")

    assert state.failed == 0
    assert len(list((tmp_path / "checkpoints").rglob("*.safetensors"))) == 2


entries = st.dictionaries(
    st.sampled_from(["factor", "level", "changes", "against", "note", "test_accuracy"]),
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.dictionaries(
        st.sampled_from([*VARIANT_FIELDS, "seed"]),
        st.booleans() | st.integers(1, 9) | st.floats() | st.sampled_from(["max", "flip", "sgd"]),
        max_size=2,
    ),
)
source = st.just(SOURCE) | st.dictionaries(st.sampled_from([*SOURCE, "x"]), st.integers())


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(entries, max_size=4), st.lists(entries, max_size=2), source)
def test_any_entries_make_a_plan_or_a_user_error(
    variants: list[Any], reported: list[Any], source: Any
) -> None:
    with contextlib.suppress(UserError):
        made = plan(*variants)
        json.dumps(made.to_dict(), allow_nan=False)
        assert {row.variant for row in made.rows} == set(made.variants)
        made = plan(*variants, source=source, reported=reported)
        assert Plan.from_dict(made.to_dict()).to_dict() == made.to_dict()
