"""Small plans on digits, the fastest real trainings there are, and a way to run them in process."""

import hashlib
from pathlib import Path
from typing import Any

from study.plans.plan import Plan
from study.run import session
from study.run.coordinator import State
from study.run.machine import Estimate, Machine
from study.store import location

TINY = """
name = "tiny"
dataset = "digits"
seeds = 2
epochs = 1
subset = 200

[baseline]
width = 4
batch_size = 32
precision = "fp32"

[factors]
pooling = ["max", "avg"]
"""

INLINE = Machine(device="cpu", executor="inline")


def tiny(**changes: Any) -> Plan:
    """Make the plan of TINY, some keys changed: 2 variants with 2 seeds."""
    values: dict[str, Any] = {
        "name": "tiny",
        "dataset": "digits",
        "seeds": 2,
        "epochs": 1,
        "subset": 200,
        "baseline": {"width": 4, "batch_size": 32, "precision": "fp32"},
        "factors": {"pooling": ["max", "avg"]},
    }
    return Plan.from_dict(values | changes)


class Witness:
    """A view that remembers what it was shown."""

    def __init__(self) -> None:
        self.states: list[State] = []
        self.events: list[str] = []

    def show(self, state: State, event: str | None) -> None:
        self.states.append(state)
        if event:
            self.events.append(event)


def announce(name: str, costs: Estimate | None) -> None:
    """Keep what a run announces to oneself."""


def run(
    plan: Plan, file: Path, *, machine: Machine = INLINE, name: str | None = None, **more: Any
) -> State:
    """Run a plan in this process, as the command does."""
    return session.run(
        plan,
        location.locate(str(file)),
        machine,
        study_name=name,
        argv=["run", plan.name],
        view=Witness(),
        announce=announce,
        **more,
    )


def fingerprint(file: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
