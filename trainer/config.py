"""`TrainConfig`: everything that determines a training run, in the field's standard names.

No torch here: plans are checked, shown and costed without loading it.
"""

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Self

from trainer.architectures import ARCHITECTURES
from trainer.datasets import dataset_fault
from trainer.errors import UserError, choose

AUGMENTATIONS = ("flip", "erase", "translate", "crop", "crop_reflect", "rotate", "noise")

# Architecture -> the network fields that it reads. The others do not change its network.
ARCHITECTURE_FIELDS: Mapping[str, frozenset[str]] = {
    name: architecture.reads for name, architecture in ARCHITECTURES.items()
}

# What may differ between the members of one bank; everything else shapes the tensors or the loop.
PER_MEMBER = frozenset(
    {
        "seed",
        "learning_rate",
        "weight_decay",
        "momentum",
        "schedule",
        "step_epochs",
        "step_factor",
        "exponential_factor",
        "dropout",
        "label_smoothing",
        "augmentation",
        "normalization",
        "early_stopping",
        "patience",
        "nesterov",
        "norm_bias_decay",
        "ema",
        "mixup",
        "cutmix",
    }
)

MAX_DEPTH = 16  # steps of a convnet

# Tables of settings whose names are the user's: of a network, of a training that is not ours.
OPTION_TABLES = ("model_options", "trainer_options")
# Not settings of our training: they say whose training it is, and what that is given.
_OF_OTHERS = ("trainer", "command", "options")
# What a training that is not ours is told; `trainer.own_training` passes it on.
TOLD = ("dataset", "subset", "epochs", "seed")

Option = bool | int | float | str
Check = Callable[[Any], str | None]  # what is wrong with a value, in words


def _one_of(default: str, *valid: str) -> Any:
    def check(value: Any) -> str | None:
        return None if value in valid else f"choose from {', '.join(valid)}"

    return field(default=default, metadata={"check": check})


def is_reference(text: str) -> bool:
    """Whether it names a function of the user's: `package.module:function`."""
    return re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*", text) is not None


def is_option(name: str) -> bool:
    """Whether it is a setting with a name of the user's: `model_options.heads`."""
    table, dot, option = name.partition(".")
    return table in OPTION_TABLES and bool(dot) and option.isidentifier() and option.isascii()


def _architecture(value: Any) -> str | None:
    if value in ARCHITECTURES or is_reference(value):
        return None
    return f"choose from {', '.join(ARCHITECTURES)}, or name yours as package.module:function"


def _trainer(value: Any) -> str | None:
    fine = not value or is_reference(value)
    return None if fine else "name your training as package.module:function"


def _command(value: Any) -> str | None:
    return None if not value or value.isprintable() else "must be one line of printable characters"


def _dataset(value: Any) -> str | None:
    return dataset_fault(value)


def _number(
    default: float | None,
    low: float,
    high: float = float("inf"),
    *,
    open_low: bool = False,
    open_high: bool = False,
    odd: bool = False,
) -> Any:
    def check(value: Any) -> str | None:
        if value is None and default is None:
            return None
        # Said positively, so that NaN, which compares with nothing, is out of range.
        inside = (value > low if open_low else value >= low) and (
            value < high if open_high else value <= high
        )
        if inside and not (odd and value % 2 == 0):
            return None
        text = f"{'above' if open_low else 'at least'} {low:g}"
        if high != float("inf"):
            text += f" and {'below' if open_high else 'at most'} {high:g}"
        return f"must be {'odd, ' if odd else ''}{text}"

    return field(default=default, metadata={"check": check})


def _later(item: Any) -> Any:
    """Mark a field that studies were written without: at its default it is left out of them.

    So that a config of theirs is the same, with the same hash, as ever.
    """
    return field(default=item.default, metadata={**item.metadata, "later": True})


def _augmentation(default: str) -> Any:
    def check(value: Any) -> str | None:
        names = augmentation_names(value)
        unknown = [name for name in names if name not in AUGMENTATIONS]
        if unknown:
            return f"join any of {', '.join(AUGMENTATIONS)} with '+', or 'none'"
        ordered = "+".join(name for name in AUGMENTATIONS if name in names)
        return None if value in ("none", ordered) else f"write it as '{ordered}'"

    return field(default=default, metadata={"check": check})


def _pool_steps(default: str) -> Any:
    def check(value: Any) -> str | None:
        steps = value.split("+") if re.fullmatch(r"[1-9]\d?(\+[1-9]\d?)*", value, re.ASCII) else []
        numbers = sorted({int(step) for step in steps})
        rising = bool(numbers) and value == "+".join(map(str, numbers))
        if rising and numbers[-1] <= MAX_DEPTH:
            return None
        return f"join rising steps from 1 to {MAX_DEPTH} with '+', such as 1+3"

    return field(default=default, metadata={"check": check})


# One spelling for one preprocessing, so that two levels of a factor are never the same.
_DECIMAL = r"(0|[1-9]\d{0,3})(\.\d{0,8}[1-9])?"


def _normalization(default: str) -> Any:
    def check(value: Any) -> str | None:
        if value in ("dataset", "none"):
            return None
        if not re.fullmatch(f"{_DECIMAL}/{_DECIMAL}", value, re.ASCII):
            return "choose dataset, none, or MEAN/STD such as '0.286/0.353', no needless zeros"
        mean, std = map(float, value.split("/"))
        if not (mean <= 1 and 0.001 <= std <= 1000):
            return "MEAN must be at most 1 and STD from 0.001 to 1000; pixels are in [0, 1]"
        return None

    return field(default=default, metadata={"check": check})


Constants = tuple[float, float]  # mean and standard deviation


def normalization_constants(
    normalization: str, dataset: Sequence[Constants]
) -> tuple[Constants, ...]:
    """Return what is subtracted from pixels in [0, 1] and what they are divided by, per channel.

    Args:
        normalization: a valid value of the field.
        dataset: mean and standard deviation of the training images, of each channel.
    """
    if normalization == "dataset":
        return tuple(dataset)
    mean, std = ("0", "1") if normalization == "none" else normalization.split("/")
    return ((float(mean), float(std)),) * len(dataset)


def augmentation_names(augmentation: str) -> tuple[str, ...]:
    """Split `"flip+erase"` into its names; `"none"` into no name."""
    return () if augmentation == "none" else tuple(augmentation.split("+"))


@dataclass(frozen=True)
class TrainConfig:
    """One training run. Accuracies, fractions and rates are fractions of 1, not percentages.

    Raises:
        UserError: a field has the wrong type or lies outside its valid values.
    """

    # Data. `subset` images (null: all) of the training set, of which `validation_fraction`
    # validates; both are drawn stratified by `seed`.
    dataset: str = field(default="fashion-mnist", metadata={"check": _dataset})
    subset: int | None = _number(None, 10)
    validation_fraction: float = _number(0.2, 0, 1, open_low=True, open_high=True)

    # Network: `ARCHITECTURE_FIELDS` says who reads what. `convnet`: `depth` steps of convolution,
    # batch norm, activation; step s has `width * s` channels (s = 1, 2, ...); `pool_steps` of them
    # pool 2x2. The others are in `trainer.models`.
    # A name with a colon is a function of the user's, `package.module:function`.
    architecture: str = field(default="convnet", metadata={"check": _architecture})
    depth: int = _number(2, 1, MAX_DEPTH)
    width: int = _number(32, 1, 4096)
    kernel_size: int = _number(3, 1, 15, odd=True)
    batchnorm: bool = field(default=True)
    conv_bias: bool = field(default=False)  # convnet: never directly in front of a batch norm
    dropout: float = _number(0.2, 0, 1, open_high=True)  # on the features before the classifier
    pooling: str = _one_of("max", "max", "avg")
    activation: str = _one_of("leaky_relu", "relu", "leaky_relu", "gelu", "silu", "prelu")
    residual: bool = field(default=False)  # a `block` after every step
    stem: str = _one_of("3x3", "3x3", "7x7")  # 7x7: stride 2, then max pool 3x3 stride 2
    pretrained: bool = field(default=False)  # start from torchvision's ImageNet weights
    head: str = _later(_one_of("linear", "linear", "gap"))  # gap: of the channels' means
    pool_steps: str = _later(_pool_steps("1+2"))  # the steps that pool, from 1
    block: str = _later(_one_of("bottleneck", "bottleneck", "basic"))  # with `residual`
    squeeze_excite: bool = _later(field(default=False))  # of each step, or of its block's branch

    # Optimisation.
    optimizer: str = _one_of("adam", "sgd", "adam", "adamw")
    learning_rate: float = _number(3e-3, 0, 100, open_low=True)
    weight_decay: float = _number(0.0, 0, 10)  # L2 for sgd and adam, decoupled for adamw
    momentum: float = _number(0.9, 0, 1, open_high=True)  # sgd only
    batch_size: int = _number(64, 1, 65536)
    epochs: int = _number(10, 1, 100_000)
    schedule: str = _one_of("one-cycle", "constant", "step", "exponential", "cosine", "one-cycle")
    step_epochs: int = _number(10, 1, 100_000)  # schedule "step": every so many epochs ...
    step_factor: float = _number(0.1, 0, 1, open_low=True)  # ... times this
    exponential_factor: float = _number(0.99, 0, 1, open_low=True)  # per epoch
    label_smoothing: float = _number(0.0, 0, 1, open_high=True)
    augmentation: str = _augmentation("none")
    normalization: str = _normalization("dataset")  # of pixels in [0, 1]; none: left there

    # Early stopping, on validation figures only.
    early_stopping: str = _one_of("none", "none", "val_loss", "val_accuracy")
    patience: int = _number(4, 1, 100_000)  # epochs without improvement

    # For accuracy.
    nesterov: bool = _later(field(default=False))  # sgd with momentum only
    norm_bias_decay: bool = _later(field(default=True))  # weight_decay acts on norms and biases too
    ema: float = _later(_number(0.0, 0, 1, open_high=True))  # decay of averaged weights, per step
    mixup: float = _later(_number(0.0, 0, 100))  # alpha of Beta(alpha, alpha); 0: none
    cutmix: float = _later(_number(0.0, 0, 100))  # the same; both: one of them, at random
    test_time_flip: bool = _later(field(default=False))  # evaluation: with the mirrored image

    # bf16 where the device computes in it natively, else fp32.
    precision: str = _one_of("auto", "auto", "bf16", "fp32", "fp64")
    seed: int = _number(0, 0, 2**31 - 1)

    # A training that is not ours: a function of the user's, or a command as a shell writes it.
    # Of the fields above it is told those of `TOLD`; the data set is then a name, nothing more.
    trainer: str = field(default="", metadata={"check": _trainer})
    command: str = field(default="", metadata={"check": _command})
    # The user's own settings by their names, ("model_options.heads", 4), in alphabetical order.
    options: tuple[tuple[str, Option], ...] = ()

    def __post_init__(self) -> None:
        """Check every field; take a whole number where a float is meant, as TOML writes it."""
        if self.trainer and self.command:
            raise UserError("trainer and command: give one of them")
        for name, option in self.options:
            _check_option(name, option)
        for item in fields(self):
            if item.name == "options" or (item.name == "dataset" and self.is_foreign):
                continue
            value = getattr(self, item.name)
            # No valid number is beyond 2**31, and float() fails beyond its range.
            if item.type is float and type(value) is int and abs(value) <= 1 << 31:
                value = float(value)
                object.__setattr__(self, item.name, value)  # how a frozen dataclass sets itself up
            _check_type(item.name, value, item.type)
            check: Check | None = item.metadata.get("check")
            wrong = check(value) if check else None
            if wrong:
                raise UserError(f"{item.name} = {value!r}: {wrong}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make a config of named values; the rest keeps its defaults.

        Raises:
            UserError: a name is unknown, or a value invalid.
        """
        for name in values:
            if name not in FIELD_NAMES and name not in _OF_OTHERS[:2] and not is_option(name):
                raise UserError(choose("field", name, FIELD_NAMES))
        settings = {name: value for name, value in values.items() if not is_option(name)}
        options = tuple(sorted((n, value) for n, value in values.items() if is_option(n)))
        return cls(**settings, options=options)

    def to_dict(self, also: Collection[str] = ()) -> dict[str, Any]:
        """Return what the training depends on by name, as JSON-ready values: options too.

        Fields that came later are left out at their defaults, as in studies of before, but for
        those in `also`.
        """
        values = vars(self)
        names = (
            TOLD
            if self.is_foreign
            else [n for n in FIELD_NAMES if n in also or self._is_written(n)]
        )
        whose = {name: values[name] for name in ("trainer", "command") if values[name]}
        return {**{name: values[name] for name in names}, **whose, **dict(self.options)}

    def _is_written(self, name: str) -> bool:
        item = self.__dataclass_fields__[name]
        return "later" not in item.metadata or getattr(self, name) != item.default

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields or options changed, checked again."""
        options = {name: changes.pop(name) for name in list(changes) if is_option(name)}
        if options:
            changes["options"] = tuple(sorted({**dict(self.options), **options}.items()))
        return replace(self, **changes)

    def __getattr__(self, name: str) -> Option:
        """Return an option by its name: `getattr(config, "model_options.heads")`."""
        for option, value in self.__dict__.get("options", ()):
            if option == name:
                return value  # type: ignore[no-any-return] # read past the dataclass
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def options_of(self, table: str) -> dict[str, Option]:
        """Return the options of `model_options` or `trainer_options`, by their short names."""
        prefix = f"{table}."
        return {n.removeprefix(prefix): value for n, value in self.options if n.startswith(prefix)}

    @property
    def model_options(self) -> dict[str, Option]:
        """The settings of a network of the user's: {"heads": 4}."""
        return self.options_of("model_options")

    @property
    def is_foreign(self) -> bool:
        """Whether the training is not ours: a function or a command of the user's."""
        return bool(self.trainer or self.command)

    @property
    def has_foreign_network(self) -> bool:
        """Whether the network is a function of the user's."""
        return ":" in self.architecture

    @cached_property
    def fusion_key(self) -> tuple[Any, ...]:
        """What two configs must have in common to be trained in one bank."""
        shared = PER_MEMBER - {"dropout"} if self.has_foreign_network else PER_MEMBER
        values = tuple(getattr(self, name) for name in FIELD_NAMES if name not in shared)
        return (*values, self.trainer, self.command, self.options)


def biased_under_batchnorm(config: TrainConfig) -> bool:
    """Whether a convolution keeps a bias directly under a batch norm, which cancels it.

    Only networks of others do, to be comparable with their published counts.
    """
    if config.architecture == "conv_pairs":
        return config.conv_bias and config.batchnorm
    return config.conv_bias and config.architecture == "resnet_like" and config.stem == "3x3"


def pooling_steps(config: TrainConfig) -> tuple[int, ...]:
    """Return which steps of a convnet pool, from 1; those beyond its depth are left out."""
    steps = map(int, config.pool_steps.split("+"))
    return tuple(step for step in steps if step <= config.depth)


# The settings of our training; `TrainConfig.options` has others.
FIELD_NAMES = tuple(item.name for item in fields(TrainConfig) if item.name not in _OF_OTHERS)

_NETWORK_FIELDS = frozenset().union(*ARCHITECTURE_FIELDS.values())


def network_fields(architecture: str) -> frozenset[str]:
    """Return the network fields that an architecture reads; of the user's: perhaps all."""
    return ARCHITECTURE_FIELDS.get(architecture, _NETWORK_FIELDS - {"pretrained"})


def _check_option(name: str, value: Any) -> None:
    fine = isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value))
    if isinstance(value, str):
        fine = len(value) <= 1000 and value.isprintable()
    if not fine:
        wanted = "a finite number, true or false, or a line of text"
        raise UserError(f"{name} = {value!r}: must be {wanted}")
    if name.partition(".")[2] in TOLD:
        raise UserError(f"{name}: every training is told its {name.partition('.')[2]}; rename it")


def _check_type(name: str, value: Any, expected: Any) -> None:
    valid = isinstance(value, expected)
    if isinstance(value, bool) and expected is not bool:
        valid = False
    if not valid:
        names = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}
        wanted = names.get(expected, "a whole number or nothing")
        raise UserError(f"{name} = {value!r}: must be {wanted}")
