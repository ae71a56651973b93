"""torchvision beside any build of torch, and out of the training's way."""

from collections.abc import Callable


def test_torchvision_is_imported_in_a_fresh_process(fresh_python: Callable[[str], str]) -> None:
    code = """
from trainer.torchvision_compat import torchvision
module = torchvision()
assert torchvision() is module
import torchvision as plain
assert plain is module
parameters = module.models.resnet18().parameters()
print(sum(p.numel() for p in parameters), *module.datasets.KMNIST.mirrors)
"""
    count, *mirrors = fresh_python(code).split()
    assert int(count) == 11_689_512
    assert mirrors


def test_training_imports_neither_torchvision_nor_what_belongs_to_other_rooms(
    fresh_python: Callable[[str], str],
) -> None:
    code = """
import sys
import trainer.train
from trainer.config import TrainConfig
from trainer.data import load
foreign = {"torchvision", "optuna", "sqlalchemy", "plotly", "typer"}
print((foreign | {"sklearn", "pandas"}) & {*sys.modules})
data = load("digits")
config = TrainConfig(dataset="digits", epochs=1, width=4, subset=200)
trainer.train.train([config], data)
print(foreign & {*sys.modules})  # the digits come from scikit-learn, which loads pandas
"""
    assert fresh_python(code).splitlines() == ["set()", "set()"]
