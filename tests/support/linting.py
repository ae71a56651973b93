"""Plans and results for the checks of the method, ours and imported ones."""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from study.cli.findings import findings as findings_of
from study.cli.findings import plan_alone
from study.importing import make_study
from study.lint import Finding, lint
from study.plans.plan import Plan, Variant
from tests.support.imports import table_of

FIXTURES = Path(__file__).parents[1] / "study" / "lint" / "fixtures"


def results(text: str, *, dataset: str | None = None) -> tuple[dict[str, Any], list[Any]]:
    """Import a table; return its plan and its runs, as `lint` sees them."""
    made = make_study(table_of(text), name="theirs", dataset=dataset)
    names = ("val_loss", "test_loss", "test_accuracy")
    rows = [
        SimpleNamespace(
            state=own.state,
            value=own.value,
            params=own.params,
            label=own.attributes["variant"],
            seed=own.attributes["seed"],
            changes=own.attributes["changes"],
            config=own.attributes["config"],
            history=own.attributes.get("history", []),
            **{name: own.attributes.get(name) for name in names},
        )
        for own in made.trials
    ]
    return made.plan, rows


def examined(name: str, text: str, dataset: str | None = None) -> list[Finding]:
    """Lint a plan or a table of results."""
    if name.endswith(".toml"):
        return of_plan(Plan.from_dict(tomllib.loads(text)).to_dict())
    return lint(*results(text, dataset=dataset))


def of_plan(plan: Mapping[str, Any]) -> list[Finding]:
    """Find what the command finds in a plan without results."""
    return findings_of(plan_alone("theirs", plan), [])


def found(findings: Iterable[Finding], code: str) -> list[tuple[str, str]]:
    return [(own.severity, own.where) for own in findings if own.code == code]


def ours(**changes: Any) -> dict[str, Any]:
    return Plan.from_dict({"name": "ours", "dataset": "digits", **changes}).to_dict()


def row(
    changes: Mapping[str, Any],
    seed: int,
    value: float | None,
    *,
    state: str = "COMPLETE",
    **more: Any,
) -> Any:
    """Make a trial of ours."""
    known: dict[str, Any] = {"config": {}, "history": [], "val_loss": None, "test_loss": None}
    known |= {"test_accuracy": None, "params": changes}
    label = Variant(tuple(changes.items())).label
    return SimpleNamespace(
        **{**known, **more}, state=state, label=label, value=value, seed=seed, changes=dict(changes)
    )


def level_rows(factor: str, values: Mapping[Any, Sequence[float]], base: Any) -> list[Any]:
    return [
        row({} if level == base else {factor: level}, seed, value)
        for level, own in values.items()
        for seed, value in enumerate(own)
    ]
