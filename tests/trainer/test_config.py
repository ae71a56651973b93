"""What a `TrainConfig` accepts, refuses and promises."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.config import (
    ARCHITECTURE_FIELDS,
    AUGMENTATIONS,
    FIELD_NAMES,
    TrainConfig,
    augmentation_names,
    biased_under_batchnorm,
    normalization_constants,
    pooling_steps,
)
from trainer.datasets import DATASETS
from trainer.errors import UserError

DEFAULTS = TrainConfig().to_dict(also=FIELD_NAMES)
FLOATS = [name for name, value in DEFAULTS.items() if isinstance(value, float)]
BOOLS = [name for name, value in DEFAULTS.items() if isinstance(value, bool)]
STRINGS = [name for name, value in DEFAULTS.items() if isinstance(value, str)]
# Fields that studies were written without.
LATER = (
    *("head", "pool_steps", "block", "squeeze_excite"),
    *("nesterov", "norm_bias_decay", "ema", "mixup", "cutmix", "test_time_flip"),
)
INTS = sorted({*FIELD_NAMES} - {*FLOATS, *BOOLS, *STRINGS})

ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**400, -(10**400), 2**31]),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["sgd", "avg", "relu", "cosine", "flip+erase", "erase+flip", "digits", "fp64"]),
    st.sampled_from(["toy", "7x7", "0.5/1", "0.50/1", "/", "1e-3/1"]),
    st.lists(st.integers(), max_size=2),
)

# Field -> values that are valid.
VALID: dict[str, st.SearchStrategy[Any]] = {
    "dataset": st.sampled_from(list(DATASETS)),
    "subset": st.none() | st.integers(10, 60_000),
    "validation_fraction": st.floats(0, 1, exclude_min=True, exclude_max=True),
    "architecture": st.sampled_from(sorted(ARCHITECTURE_FIELDS)),
    "kernel_size": st.sampled_from([1, 3, 15]),
    "batchnorm": st.booleans(),
    "dropout": st.floats(0, 1, exclude_max=True),
    "learning_rate": st.floats(0, 100, exclude_min=True) | st.just(1),
    "weight_decay": st.floats(0, 10) | st.just(0),
    "schedule": st.sampled_from(["constant", "step", "exponential", "cosine", "one-cycle"]),
    "augmentation": st.sets(st.sampled_from(AUGMENTATIONS)).map(
        lambda names: "+".join(name for name in AUGMENTATIONS if name in names) or "none"
    ),
    "normalization": st.sampled_from(["dataset", "none", "0.286/0.126", "0/1"]),
    "seed": st.integers(0, 2**31 - 1),
    "nesterov": st.booleans(),
    "norm_bias_decay": st.booleans(),
    "ema": st.floats(0, 1, exclude_max=True),
}


@given(st.dictionaries(st.sampled_from(FIELD_NAMES) | st.text(max_size=5), ANYTHING, max_size=4))
def test_any_values_make_a_valid_config_or_an_error_that_names_the_field(
    values: dict[str, Any],
) -> None:
    try:
        config = TrainConfig.from_dict(values)
    except UserError as error:
        message = str(error)
        assert any(message.startswith((f"{name} = ", f"field = {name!r}")) for name in values)
        assert len(message.splitlines()) == 1
    else:
        assert values.keys() <= {*FIELD_NAMES}
        assert all(math.isfinite(getattr(config, name)) for name in FLOATS)


@given(st.fixed_dictionaries({}, optional=VALID))
def test_a_config_survives_its_dict_and_json(values: dict[str, Any]) -> None:
    config = TrainConfig.from_dict(values)
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert {name: getattr(config, name) for name in values} == values


def test_every_field_has_a_valid_default_that_json_keeps() -> None:
    config = TrainConfig()
    assert tuple(DEFAULTS) == FIELD_NAMES
    assert json.loads(json.dumps(config.to_dict())) == config.to_dict()


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400, True, "0.1", None])
def test_a_float_field_refuses_what_is_no_finite_number(name: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"^{name} = "):
        TrainConfig.from_dict({name: value})


@pytest.mark.parametrize("name", INTS)
@pytest.mark.parametrize("value", [True, 2.0, "2", math.nan])
def test_a_whole_number_field_refuses_what_is_none(name: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"^{name} = .*must be a whole number"):
        TrainConfig.from_dict({name: value})


@pytest.mark.parametrize("name", BOOLS)
@pytest.mark.parametrize("value", [0, 1, "true", None])
def test_a_switch_takes_true_and_false_alone(name: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"^{name} = .*true or false"):
        TrainConfig.from_dict({name: value})


@pytest.mark.parametrize("name", STRINGS)
@pytest.mark.parametrize("value", ["median", "", 1, None, True])
def test_a_choice_refuses_what_is_not_offered(name: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"^{name} = "):
        TrainConfig.from_dict({name: value})


@pytest.mark.parametrize(
    ("name", "outside", "inside"),
    [
        ("subset", 9, 10),
        ("validation_fraction", 0.0, 1e-9),
        ("validation_fraction", 1.0, 0.999),
        ("depth", 17, 16),
        ("width", 0, 1),
        ("kernel_size", 4, 5),
        ("kernel_size", 17, 15),
        ("dropout", 1.0, 0.999),
        ("learning_rate", 0.0, 1e-12),
        ("momentum", 1.0, 0.0),
        ("batch_size", 0, 1),
        ("epochs", 0, 1),
        ("epochs", -1, 1),
        ("step_factor", 0.0, 1.0),
        ("label_smoothing", -0.1, 0.0),
        ("patience", 0, 1),
        ("step_epochs", 10**30, 1),
        ("seed", 2**31, 2**31 - 1),
        ("ema", 1.0, 0.9999),
        ("mixup", -0.1, 0.2),
        ("cutmix", 101, 1.0),
    ],
)
def test_a_range_ends_where_it_says(name: str, outside: float, inside: float) -> None:
    with pytest.raises(UserError, match=f"^{name} = .*must be"):
        TrainConfig.from_dict({name: outside})
    assert getattr(TrainConfig.from_dict({name: inside}), name) == inside


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("learning_rate", 1),
        ("weight_decay", 0),
        ("momentum", 0),
        ("dropout", 0),
        ("step_factor", 1),
        ("exponential_factor", 1),
        ("label_smoothing", 0),
    ],
)
def test_a_whole_number_is_taken_where_a_float_is_meant(name: str, whole: int) -> None:
    made = [TrainConfig.from_dict({name: whole}), TrainConfig().replace(**{name: whole})]
    assert [type(getattr(config, name)) for config in made] == [float, float]


def test_pooling_steps_rise_in_one_spelling_and_end_at_the_depth() -> None:
    assert pooling_steps(TrainConfig(depth=1)) == (1,)
    assert pooling_steps(TrainConfig(depth=5, pool_steps="1+3+16")) == (1, 3)
    assert pooling_steps(TrainConfig(depth=2, pool_steps="3")) == ()
    for wrong in ("", "0", "01", "2+1", "1+1", "1+", "17", "1 + 2", "1,2", "\u0661", "1+2\n"):
        with pytest.raises(UserError, match=r"^pool_steps = .*join rising steps from 1 to 16"):
            TrainConfig(pool_steps=wrong)


def test_an_unknown_field_is_named_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"^field = 'lr': choose from .*learning_rate"):
        TrainConfig.from_dict({"lr": 0.1})


def test_a_message_says_what_was_given_and_what_is_valid() -> None:
    with pytest.raises(UserError) as caught:
        TrainConfig(pooling="median")
    assert str(caught.value) == "pooling = 'median': choose from max, avg"
    with pytest.raises(UserError) as caught:
        TrainConfig(kernel_size=2)
    assert str(caught.value) == "kernel_size = 2: must be odd, at least 1 and at most 15"


def test_a_changed_copy_is_checked_again_and_leaves_the_original() -> None:
    config = TrainConfig()
    assert config.replace(width=64).width == 64
    assert config.width == 32
    with pytest.raises(UserError, match=r"^width = 0"):
        config.replace(width=0)


# Field -> a valid value that is not the default.
OTHER: dict[str, Any] = {
    "dataset": "digits",
    "architecture": "toy",
    "subset": 100,
    "validation_fraction": 0.5,
    "depth": 4,
    "width": 64,
    "kernel_size": 5,
    "batchnorm": False,
    "conv_bias": True,
    "dropout": 0.5,
    "pooling": "avg",
    "activation": "gelu",
    "residual": True,
    "stem": "7x7",
    "pretrained": True,
    "optimizer": "sgd",
    "learning_rate": 0.1,
    "weight_decay": 0.1,
    "momentum": 0.5,
    "batch_size": 128,
    "epochs": 20,
    "schedule": "step",
    "step_epochs": 5,
    "step_factor": 0.5,
    "exponential_factor": 0.5,
    "label_smoothing": 0.1,
    "augmentation": "flip",
    "normalization": "none",
    "early_stopping": "val_loss",
    "patience": 8,
    "precision": "fp64",
    "seed": 1,
    "nesterov": True,
    "norm_bias_decay": False,
    "ema": 0.99,
    "mixup": 0.2,
    "cutmix": 1.0,
    "test_time_flip": True,
    "head": "gap",
    "pool_steps": "1+3",
    "block": "basic",
    "squeeze_excite": True,
}


MAY_DIFFER = {
    *("seed", "learning_rate", "weight_decay", "momentum", "dropout", "label_smoothing"),
    *("schedule", "step_epochs", "step_factor", "exponential_factor"),
    *("augmentation", "normalization", "early_stopping", "patience"),
    *("nesterov", "norm_bias_decay", "ema", "mixup", "cutmix"),
}


@pytest.mark.parametrize("name", OTHER)
def test_configs_fuse_exactly_where_they_differ_in_per_member_fields_alone(name: str) -> None:
    config = TrainConfig()
    changed = config.replace(**{name: OTHER[name]})
    assert changed != config
    assert (changed.fusion_key == config.fusion_key) == (name in MAY_DIFFER)


def test_every_field_was_changed_above() -> None:
    assert {*FIELD_NAMES} == OTHER.keys()


def test_a_config_is_written_as_before_there_were_later_fields() -> None:
    written = TrainConfig(width=64).to_dict()
    assert tuple(written) == tuple(name for name in FIELD_NAMES if name not in LATER)
    assert TrainConfig.from_dict(written) == TrainConfig(width=64)
    for name in LATER:
        changed = TrainConfig(width=64).replace(**{name: OTHER[name]}).to_dict()
        assert changed == {**written, name: OTHER[name]}
        assert TrainConfig(width=64).to_dict(also=[name])[name] == DEFAULTS[name]


NETWORK_FIELDS = {
    *("depth", "width", "kernel_size", "batchnorm", "conv_bias", "dropout", "pooling"),
    *("activation", "residual", "stem", "pretrained"),
    *("head", "pool_steps", "block", "squeeze_excite"),
}


def test_an_architecture_reads_network_fields_and_each_of_them_has_a_reader() -> None:
    assert frozenset.union(*ARCHITECTURE_FIELDS.values()) == NETWORK_FIELDS
    for architecture in ARCHITECTURE_FIELDS:
        assert TrainConfig(architecture=architecture).architecture == architecture


def test_a_normalization_is_the_data_sets_or_none_or_constants_in_one_spelling() -> None:
    of_the_data = ((0.3, 0.4), (0.5, 0.6))  # of two channels
    for text, constants in [
        ("dataset", of_the_data),
        ("none", ((0.0, 1.0),) * 2),
        ("0.286/0.126", ((0.286, 0.126),) * 2),
        ("0.5/1", ((0.5, 1.0),) * 2),
    ]:
        assert (
            normalization_constants(TrainConfig(normalization=text).normalization, of_the_data)
            == constants
        )
    for wrong in ("0.50/1", "00/1", "0.5", "0.5/", "a/b", "-0.1/1", "0.5/1e-3", "0.5/inf", "٣/1"):
        with pytest.raises(
            UserError, match=r"^normalization = .*choose dataset, none, or MEAN/STD"
        ):
            TrainConfig(normalization=wrong)
    for outside in ("1.1/1", "0.5/0", "0.5/0.0001", "0.5/1001"):
        with pytest.raises(UserError, match=r"^normalization = .*from 0.001 to 1000"):
            TrainConfig(normalization=outside)


@pytest.mark.parametrize(
    ("fields", "biased"),
    [
        ({"architecture": "resnet_like", "conv_bias": True}, True),
        ({"architecture": "resnet_like", "conv_bias": False}, False),
        ({"architecture": "resnet_like", "conv_bias": True, "stem": "7x7"}, False),
        ({"architecture": "conv_pairs", "conv_bias": True}, True),
        ({"architecture": "conv_pairs", "conv_bias": True, "batchnorm": False}, False),
        ({"architecture": "convnet", "conv_bias": True}, False),  # it leaves the bias out
        ({"architecture": "convnet3", "conv_bias": True}, False),  # pooling lies between
        ({"architecture": "vgg_like", "conv_bias": True}, False),  # the activation lies between
    ],
)
def test_a_bias_under_a_batch_norm_is_known_from_the_config(
    fields: dict[str, Any], biased: bool
) -> None:
    assert biased_under_batchnorm(TrainConfig(**fields)) == biased


def test_an_augmentation_has_one_spelling() -> None:
    assert TrainConfig(augmentation="flip+erase+rotate").augmentation == "flip+erase+rotate"
    for wrong, right in [("erase+flip", "flip+erase"), ("flip+flip", "flip")]:
        with pytest.raises(UserError, match=f"write it as '{right}'".replace("+", r"\+")):
            TrainConfig(augmentation=wrong)
    for unknown in ("", "mirror", "flip+", "none+flip", "flip, erase"):
        with pytest.raises(UserError, match=r"^augmentation = .*join any of flip, erase"):
            TrainConfig(augmentation=unknown)


def test_an_augmentation_splits_into_its_names() -> None:
    assert augmentation_names("none") == ()
    assert augmentation_names("flip") == ("flip",)
    assert augmentation_names("flip+erase") == ("flip", "erase")


def test_configs_are_made_without_loading_torch_or_numpy(
    fresh_python: Callable[[str], str],
) -> None:
    code = "import sys, trainer.config; print({'torch', 'numpy', 'optuna'} & {*sys.modules})"
    assert fresh_python(code) == "set()"
