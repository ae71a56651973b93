"""The plans that ship with fmnist-study, one TOML file each."""

from functools import cache
from importlib.resources import files


@cache
def names() -> tuple[str, ...]:
    """Names of the plans, in alphabetical order."""
    entries = (entry.name for entry in files(__name__).iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in entries if name.endswith(".toml")))


def text(name: str) -> str:
    """Return a plan's TOML."""
    return files(__name__).joinpath(f"{name}.toml").read_text(encoding="utf-8")
