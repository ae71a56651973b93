"""Small real studies for tests, as docs/storage.md says."""

import json
import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import optuna
import sqlalchemy as sa
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from analysis.trials import Study, Trial, connect, studies, trials

optuna.logging.set_verbosity(optuna.logging.WARNING)

PUBLISHED = Path(__file__).parents[2] / "studies.db"


def published_names() -> list[str]:
    """List the studies that travel with the package."""
    with closing(sqlite3.connect(f"{PUBLISHED.as_uri()}?immutable=1", uri=True)) as connection:
        return [name for (name,) in connection.execute("SELECT study_name FROM studies")]


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


SEARCH = plan(
    {},
    {"optimizer": "adam", "learning_rate": 3e-3, "width": 32, "momentum": 0.9},
    design="search",
    epochs=9,
    search={
        "trials": 20,
        "sampler": "tpe",
        "pruner": "hyperband",
        "objectives": ["val_accuracy"],
        "space": {
            "optimizer": ["adam", "sgd"],
            "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
            "width": {"low": 8, "high": 64},
            "momentum": {"low": 0.0, "high": 0.99, "when": {"optimizer": ["sgd"]}},
        },
        "points": [],
    },
)
PARETO = SEARCH | {
    "search": SEARCH["search"]
    | {"objectives": ["val_accuracy", "parameters"], "pruner": "none", "trials": 4}
}


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


def searched(
    of: dict[str, Any],
    params: dict[str, Any],
    candidate: int,
    value: float,
    *,
    seed: int = 0,
    state: TrialState = TrialState.COMPLETE,
    epochs: int | None = None,
    further: Sequence[float] = (),
    **attributes: Any,
) -> FrozenTrial:
    """Make a trial of the search `of`; `further` are its values of the other objectives."""
    full: int = of["epochs"]
    trained = full if epochs is None else epochs
    complete = state == TrialState.COMPLETE
    given = None if state in (TrialState.FAIL, TrialState.RUNNING) else value
    changes = {name: own for name, own in params.items() if own != of["baseline"][name]}
    known: dict[str, Any] = {
        "variant": f"#{candidate}" if candidate else "baseline",
        "candidate": candidate,
        "changes": changes,
        "seed": seed,
        "config": {**of["baseline"], **params, "seed": seed, "validation_fraction": 0.2},
    }
    if complete:
        known |= {
            "outcome": "finished",
            "best_epoch": trained,
            "val_loss": 1 - value,
            "test_accuracy": value - 0.01,
            "parameters": 50_282,
            "seconds": 12.5,
        }
    accuracies = dict.fromkeys(range(1, trained + 1), value)
    known["history"] = [{"epoch": epoch, "val_accuracy": value} for epoch in accuracies]
    return create_trial(
        state=state,
        value=None if further else given,
        values=[value, *further] if further and given is not None else None,
        params=params,
        distributions={name: distribution(of["search"]["space"][name]) for name in params},
        user_attrs=known | attributes,
        # Optuna takes no intermediate values where there are several objectives.
        intermediate_values={} if further else accuracies,
    )


def distribution(entry: Any) -> BaseDistribution:
    """Return Optuna's form of an entry of a plan's space."""
    if isinstance(entry, list):
        return CategoricalDistribution(entry)
    kind = IntDistribution if isinstance(entry["low"], int) else FloatDistribution
    return kind(entry["low"], entry["high"], log=entry.get("log", False))


def small_search() -> list[FrozenTrial]:
    """Make a search of 8 trials: 5 finished, 2 pruned, 1 diverged; two candidates on 3 seeds."""
    adam = {"optimizer": "adam", "learning_rate": 3e-3, "width": 32}
    sgd = {"optimizer": "sgd", "learning_rate": 0.0123456789, "width": 48, "momentum": 0.5}
    rows = [
        searched(SEARCH, adam, 0, 0.900),
        searched(SEARCH, sgd, 1, 0.930),
        searched(SEARCH, {**adam, "width": 8}, 2, 0.700, state=TrialState.PRUNED, epochs=1),
        searched(SEARCH, {**adam, "width": 64}, 3, 0.950),  # one lucky run
        searched(SEARCH, {**adam, "learning_rate": 0.09}, 4, 0.1, state=TrialState.FAIL,
                 epochs=2, outcome="diverged", failure_reason="loss is NaN in epoch 3"),
        searched(SEARCH, {**sgd, "momentum": 0.9}, 5, 0.990, state=TrialState.PRUNED, epochs=3),
        searched(SEARCH, {**adam, "width": 40}, 6, 0.880),
        searched(SEARCH, {**sgd, "width": 20}, 7, 0.910),
    ]  # fmt: skip
    for seed, (base, better) in enumerate([(0.895, 0.921), (0.906, 0.925)], 1):
        rows.append(searched(SEARCH, adam, 0, base, seed=seed))
        rows.append(searched(SEARCH, sgd, 1, better, seed=seed))
    return rows


def small_pareto() -> list[FrozenTrial]:
    """Make a search of 4 trials by accuracy and parameters: #1 and #3 are on the front."""
    adam = {"optimizer": "adam", "learning_rate": 3e-3, "width": 32}
    sizes = [(0.90, 5000), (0.93, 4000), (0.92, 6000), (0.85, 900)]
    return [
        searched(
            PARETO, {**adam, "width": 32 + number}, number, value, further=(size,), parameters=size
        )
        for number, (value, size) in enumerate(sizes)
    ]


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
    rows: Iterable[FrozenTrial],
    *,
    of: dict[str, Any] | None = None,
    name: str = "test",
    last_run: str | None = "2026-01-02T03:04:05+00:00",
    file: str = "studies.db",
    direction: Literal["maximize", "minimize"] = "maximize",
    directions: Sequence[Literal["maximize", "minimize"]] | None = None,
    wal: bool = True,
) -> sa.URL:
    """Write one study into `folder / file` (several calls add studies) and return its URL.

    The tables come to hold what Optuna itself writes into them, in a hundredth of the time: it
    looks for each attribute before it adds it, and has the disk synchronised for each trial.
    """
    path = folder / file
    if not path.exists():
        path.write_bytes(_empty(wal))
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
    with closing(sqlite3.connect(path)) as connection, connection:

        def number_of(table: str) -> int:
            return int(connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0])

        study, first = 1 + number_of("studies"), 1 + number_of("trials")
        tables: dict[str, list[dict[str, Any]]] = {
            "studies": [{"study_id": study, "study_name": name}],
            "study_directions": [
                {"study_id": study, "objective": objective, "direction": own.upper()}
                for objective, own in enumerate(directions or [direction])
            ],
            "study_user_attributes": [
                {"study_id": study, "key": key, "value_json": json.dumps(value)}
                for key, value in (attributes.items() if of is not None else ())
            ],
        }
        for number, trial in enumerate(rows):
            for table, row in _rows(trial):
                tables.setdefault(table, []).append({"trial_id": first + number} | row)
            tables["trials"][-1] |= {"study_id": study, "number": number}
        for table, added in tables.items():
            for names in added[:1]:
                connection.executemany(
                    f"INSERT INTO {table} ({', '.join(names)}) VALUES (:{', :'.join(names)})", added
                )
    return sa.URL.create("sqlite", database=str(path))


@cache
def _empty(wal: bool) -> bytes:
    """Return a database as Optuna begins it."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "empty.db"
        optuna.storages.RDBStorage(f"sqlite:///{path}").engine.dispose()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"PRAGMA journal_mode={'WAL' if wal else 'DELETE'}")
        return path.read_bytes()


def _rows(of: FrozenTrial) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what Optuna's tables hold of a trial, but for its numbers."""
    times = {"datetime_start": of.datetime_start, "datetime_complete": of.datetime_complete}
    yield (
        "trials",
        {"state": of.state.name}
        | {
            name: at and at.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
            for name, at in times.items()
        },
    )
    for name, value in of.params.items():
        kind = of.distributions[name]
        yield (
            "trial_params",
            {
                "param_name": name,
                "param_value": kind.to_internal_repr(value),
                "distribution_json": distribution_to_json(kind),
            },
        )
    for key, value in of.user_attrs.items():
        yield "trial_user_attributes", {"key": key, "value_json": json.dumps(value)}
    for objective, value in enumerate(of.values or ()):
        number, word = _number(value)
        yield "trial_values", {"objective": objective, "value": number, "value_type": word}
    for step, value in of.intermediate_values.items():
        number, word = _number(value)
        yield (
            "trial_intermediate_values",
            {"step": step, "intermediate_value": number, "intermediate_value_type": word},
        )


def _number(value: float) -> tuple[float | None, str]:
    if math.isfinite(value):
        return value, "FINITE"
    return None, "NAN" if math.isnan(value) else "INF_POS" if value > 0 else "INF_NEG"


def read(
    folder: Path, rows: Iterable[FrozenTrial], of: dict[str, Any] | None, **more: Any
) -> tuple[Study, list[Trial]]:
    """Write one study, as `database` does, and return it as the analysis reads it."""
    engine = connect(database(folder, rows, of=of, **more))
    (study,) = studies(engine)
    return study, trials(engine, study.id)
