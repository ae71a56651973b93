"""Executors are found by their names, those of other packages too; what is missing is named."""

import sys
import tomllib
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest

from study.run.executors import Request, plugins
from study.run.executors.inline import InlineExecutor
from study.run.machine import Machine
from trainer.errors import UserError


def test_an_unknown_name_is_refused_with_the_choices() -> None:
    with pytest.raises(UserError, match=r"^executor = 'cloud': choose from inline, local, ray$"):
        Machine(executor="cloud")


def test_an_executor_of_another_package_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    others = EntryPoints([EntryPoint("mine", "tests.support.plugin:executor_for", plugins.GROUP)])
    monkeypatch.setattr(plugins, "entry_points", others.select)
    assert plugins.names() == ["inline", "local", "mine", "ray"]
    made = plugins.maker("mine")(Request("digits", device="cpu"))
    assert isinstance(made, InlineExecutor)
    assert not plugins.is_remote("mine")


def test_ours_are_found_without_an_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    with (Path(__file__).parents[4] / "pyproject.toml").open("rb") as file:
        assert tomllib.load(file)["project"]["entry-points"][plugins.GROUP] == plugins.OURS
    monkeypatch.setattr(plugins, "entry_points", EntryPoints([]).select)
    for name in ("inline", "local"):
        assert callable(plugins.maker(name))


def test_an_executor_that_cannot_be_loaded_is_the_user_s_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    others = EntryPoints([EntryPoint("mine", "tests.support.plugin:nothing", plugins.GROUP)])
    monkeypatch.setattr(plugins, "entry_points", others.select)
    with pytest.raises(UserError, match=r"executor = 'mine': tests\.support\.plugin:nothing of "):
        Machine(executor="mine")


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    for name in [name for name in sys.modules if name.startswith("study.run.executors.ray")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(
        UserError,
        match=r"^executor = 'ray': ray is not installed: pip install 'fmnist-study\[ray\]'$",
    ):
        Machine(executor="ray")


def test_an_address_without_a_cluster_is_refused() -> None:
    with pytest.raises(UserError, match=r"ray_address = 'auto': .* add --executor ray"):
        Machine(address="auto")


def test_nothing_of_ray_is_loaded_unless_it_is_asked_for(fresh_python: Any) -> None:
    code = (
        "import sys; from study.run.machine import Machine; import study.run.session\n"
        "Machine(); Machine(executor='inline')\n"
        "print([name for name in sys.modules if name.partition('.')[0] == 'ray'])"
    )
    assert fresh_python(code) == "[]"
