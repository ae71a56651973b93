"""Which executors there are: entry points of this package and of others."""

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points

from study.run.executors import Executor, Request
from trainer.errors import UserError, choose

GROUP = "fmnist_study.executors"

OURS = {
    "inline": "study.run.executors.inline:executor_for",
    "local": "study.run.executors.local:executor_for",
    "ray": "study.run.executors.ray:executor_for [ray]",
}
"""As in pyproject.toml: a clone that was updated has entry points of its last installation."""

Maker = Callable[[Request], Executor]


def names() -> list[str]:
    """Return the names of all executors."""
    return sorted({*entry_points(group=GROUP).names, *OURS})


def maker(name: str) -> Maker:
    """Return what makes the executor of a name. Only now is anything of it loaded.

    Raises:
        UserError: there is none of that name, or what it needs is not installed.
    """
    entry = next(iter(entry_points(group=GROUP, name=name)), None)
    if entry is None and name in OURS:
        entry = EntryPoint(name, OURS[name], GROUP)
    if entry is None:
        raise UserError(choose("executor", name, names()))
    try:
        make: Maker = entry.load()
    except (ImportError, AttributeError) as error:
        raise UserError(f"executor = {name!r}: {_lacking(entry, error)}") from error
    return make


def _lacking(entry: EntryPoint, error: Exception) -> str:
    """Say what to install, where the entry point names the extra that brings it."""
    package = entry.dist.name if entry.dist else "fmnist-study" if entry.name in OURS else "others"
    if isinstance(error, ModuleNotFoundError) and entry.extras:
        return f"{error.name} is not installed: pip install '{package}[{','.join(entry.extras)}]'"
    return f"{entry.value} of {package} cannot be loaded: {error}"


def is_remote(name: str) -> bool:
    """Whether an executor trains on other machines, whose devices count.

    Raises:
        UserError: as `maker`.
    """
    return bool(getattr(maker(name), "remote", False))
