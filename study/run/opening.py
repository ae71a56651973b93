"""Which study of the database a plan belongs to, and how it is opened to go on."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial

from study.plans.plan import Plan
from study.run.proposals import directions
from study.store.connection import use_wal
from study.store.writer import StudyWriter
from trainer.errors import UserError


def name_for(plan: Plan, stored: Callable[[str], Mapping[str, Any] | None]) -> str:
    """Return the name of the study that a plan's trials belong to.

    A study holds one data set, subset and number of epochs. Where the plan's name is taken by a
    study with others, these become part of the name, the same for the same command.

    Args:
        plan: the plan.
        stored: a study's name to its stored plan; None: there is no such study.
    """
    taken = stored(plan.name)
    if not taken or Plan.from_dict(taken).conditions == plan.conditions:
        return plan.name
    size = f"-{plan.subset}" if plan.subset else ""
    return f"{plan.name}-{plan.conditions['dataset']}{size}-{plan.epochs}-epochs"


def check_same_plan(name: str, stored: Mapping[str, Any] | None, trials: int, plan: Plan) -> None:
    """Check that a study of this stored plan, with so many trials, is this plan's.

    Raises:
        UserError: it is another plan's; says what differs.
    """
    if stored:
        _refuse(name, plan_differences(Plan.from_dict(stored), plan))
    elif trials:
        raise UserError(
            f"study {name!r}: was not made by fmnist-study; choose another --study-name"
        )


def plan_differences(stored: Plan, plan: Plan) -> list[str]:
    """Say what differs between the identities of two plans: `epochs (10, now 20)`."""
    old, new = stored.identity, plan.identity
    return [
        f"{key.removeprefix('baseline.')} ({old.get(key, 'absent')}, now {new.get(key, 'absent')})"
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key)
    ]


def open_study(writer: StudyWriter, plan: Plan, dataset: Mapping[str, Any]) -> None:
    """Create the study, or go on with it: fail what a dead owner left running.

    Raises:
        UserError: its results come from other data.
    """
    check_same_images(writer, plan, dataset.get("sha256"))
    use_wal(writer.storage)
    if not writer.exists:
        writer.create(directions(plan))
    store_plan(writer, plan, dataset=dict(dataset))
    writer.fail_running("the run that started it ended without a word")


def check_same_images(writer: StudyWriter, plan: Plan, sha256: str | None) -> None:
    """Check that a study, if it is there, was trained on these images; None: not told yet.

    Raises:
        UserError: its results come from other data.
    """
    stored = writer.attributes().get("dataset") if writer.exists else None
    if stored is not None and sha256 is not None and stored.get("sha256") != sha256:
        _refuse(writer.name, [f"the content of {plan.dataset}"])


def store_plan(writer: StudyWriter, plan: Plan, **attributes: Any) -> None:
    """Store a study's plan and other attributes at once.

    Its words, and what others reported, may have been corrected since the last run.
    """
    # A study keeps the most seeds and trials it was ever planned with: its results are still there.
    plan = plan.at_least(writer.plan())
    writer.describe({"plan": plan.to_dict(), "plan_hash": plan.hash, **attributes})


def attempts(trials: Sequence[FrozenTrial]) -> Counter[tuple[str, int]]:
    """Count how often each cell (variant, seed) was begun."""
    attributes = (trial.user_attrs for trial in trials)
    return Counter((attrs["variant"], attrs["seed"]) for attrs in attributes if "variant" in attrs)


def _refuse(name: str, differences: Sequence[str]) -> None:
    if differences:
        raise UserError(
            f"study {name!r} in the database differs from this plan in "
            f"{'; '.join(differences)}: choose another --study-name, or restore the plan"
        )
