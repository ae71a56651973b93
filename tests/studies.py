"""Small real studies for tests, written by Optuna's public API as docs/storage.md says."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import optuna
import sqlalchemy as sa
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

optuna.logging.set_verbosity(optuna.logging.WARNING)


def plan(
    factors: dict[str, list[Any]],
    baseline: dict[str, Any],
    *,
    design: str = "ablation",
    seeds: int = 3,
    **more: Any,
) -> dict[str, Any]:
    """Make the `plan` attribute of a study."""
    return {
        "name": "test",
        "description": "",
        "design": design,
        "dataset": "digits",
        "seeds": seeds,
        "epochs": 2,
        "subset": None,
        "baseline": baseline,
        "factors": factors,
    } | more


POOLING = plan(
    {"pooling": ["max", "avg"], "batchnorm": [True, False]},
    {"pooling": "max", "batchnorm": True},
)


def variant(changes: dict[str, Any]) -> str:
    """Name a variant by what it changes, e.g. `pooling=avg batchnorm=false`."""
    words = (
        f"{name}={str(value).lower() if isinstance(value, bool) else value}"
        for name, value in changes.items()
    )
    return " ".join(words) or "baseline"


def trial(
    of: dict[str, Any],
    changes: dict[str, Any],
    seed: int,
    value: float | None,
    *,
    state: TrialState = TrialState.COMPLETE,
    intermediate: dict[int, float] | None = None,
    **attributes: Any,
) -> FrozenTrial:
    """Make one trial of the plan `of`; `value` is its validation accuracy (None: it has none)."""
    factors, baseline = of["factors"], of["baseline"]
    levels = {name: changes.get(name, baseline[name]) for name in factors}
    known: dict[str, Any] = {
        "variant": variant(changes),
        "changes": changes,
        "seed": seed,
        "config": {**baseline, **changes, "seed": seed, "epochs": of["epochs"]},
    }
    if value is not None and state == TrialState.COMPLETE:
        known |= {
            "outcome": "finished",
            "best_epoch": 2,
            "val_loss": 1 - value,
            "test_accuracy": value - 0.01,
            "test_loss": 1.1 - value,
            "parameters": 50_282,
            "seconds": 12.5,
            "images_per_second": 4000.0,
            "device": "cpu",
            "precision": "fp32",
            "bank": 3,
        }
    epochs = {} if value is None else {1: value - 0.1, 2: value}
    return create_trial(
        state=state,
        value=value if state == TrialState.COMPLETE else None,
        params=levels,
        distributions={
            name: CategoricalDistribution(list(dict.fromkeys([baseline[name], *factors[name]])))
            for name in factors
        },
        user_attrs=known | attributes,
        intermediate_values=epochs if intermediate is None else intermediate,
    )


def running(of: dict[str, Any], changes: dict[str, Any], seed: int, epoch: int) -> FrozenTrial:
    """Make a trial in training that has finished `epoch` epochs."""
    found = trial(of, changes, seed, None, state=TrialState.RUNNING)
    found.intermediate_values = dict.fromkeys(range(1, epoch + 1), 0.5)
    return found


def ablation_trials(
    of: dict[str, Any], values: Mapping[str, Iterable[float]]
) -> Iterator[FrozenTrial]:
    """Make the trials of a one-factor-at-a-time study.

    `values` holds the accuracies by seed of each variant, keyed `baseline` or `factor=level`.
    """
    by_name: dict[str, dict[str, Any]] = {"baseline": {}}
    for factor, levels in of["factors"].items():
        by_name |= {variant({factor: level}): {factor: level} for level in levels}
    for name, accuracies in values.items():
        for seed, value in enumerate(accuracies):
            yield trial(of, by_name[name], seed, value)


def database(
    folder: Path,
    trials: Iterable[FrozenTrial],
    *,
    of: dict[str, Any] | None = None,
    name: str = "test",
    last_run: str | None = "2026-01-02T03:04:05+00:00",
    file: str = "studies.db",
    direction: Literal["maximize", "minimize"] = "maximize",
    wal: bool = True,
) -> sa.URL:
    """Write one study into `folder / file` (several calls add studies) and return its URL."""
    url = sa.URL.create("sqlite", database=str(folder / file))
    storage = optuna.storages.RDBStorage(
        url.render_as_string(), engine_kwargs={"poolclass": sa.NullPool}
    )
    try:
        if wal:
            with storage.engine.connect() as connection:
                connection.execute(sa.text("PRAGMA journal_mode=WAL"))
        study = optuna.create_study(storage=storage, study_name=name, direction=direction)
        attributes: dict[str, Any] = {
            "plan": of,
            "last_run": last_run,
            "dataset": {
                "name": "digits",
                "sha256": "0" * 64,
                "train_images": 1437,
                "test_images": 360,
                "classes": 10,
            },
        }
        for key, value in attributes.items() if of is not None else ():
            study.set_user_attr(key, value)
        study.add_trials(trials)
    finally:
        storage.engine.dispose()
    return url
