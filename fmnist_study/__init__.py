"""Hyperparameter studies from Python: run them, read them, and the statistics alone.

    import fmnist_study

    study = fmnist_study.run("ablation", dataset="digits")
    study                      # in a notebook: table, forest plot, what was found
    study.trials               # a DataFrame
    fmnist_study.load("ablation").report("reports")

The statistics take numbers from anywhere: `fmnist_study.ablation({"baseline": {0: 0.91, ...},
"wide": {0: 0.92, ...}})`. What is wrong with what was given is a `UserError`. Nothing heavy is
loaded before it is used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from trainer.errors import UserError

if TYPE_CHECKING:
    from fmnist_study.numbers import ablation, compare, factorial
    from fmnist_study.running import run
    from fmnist_study.studies import Study, load

__all__ = ["Study", "UserError", "ablation", "compare", "factorial", "load", "run"]

_PLACES = {
    "Study": "studies",
    "load": "studies",
    "run": "running",
    "ablation": "numbers",
    "compare": "numbers",
    "factorial": "numbers",
}


def __getattr__(name: str) -> Any:
    """Load what is asked for."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    """Name what there is."""
    return sorted(__all__)
