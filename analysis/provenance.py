"""Where a study's figures come from: command, device, versions, data, date, and what they took."""

from collections.abc import Sequence
from typing import Any

from analysis import reported
from analysis.text import printable
from analysis.training_times import first_began, last_ended, trained_here, wall_seconds
from analysis.trials import Study, Trial
from analysis.wording import count, listed
from fmnist_common.text import duration


def facts(study: Study, trials: Sequence[Trial]) -> list[tuple[str, str]]:
    """Return names of facts and what is known of them, those that are not known left out."""
    attributes, dataset = study.attributes, study.dataset
    source, here = study.plan.get("source"), trained_here(study.plan, trials)
    named = {
        "Command": attributes.get("command"),
        "Host": attributes.get("host"),
        "Devices": attributes.get("devices"),
        "Precision": sorted({trial.precision for trial in trials if trial.precision}),
        "Versions": attributes.get("versions"),
        "Git commit": attributes.get("git_commit"),
        "Code of the user's, SHA-256": attributes.get("code"),
        "Data set": dataset.get("name"),
        "Data SHA-256": dataset.get("sha256"),
        "Plan SHA-256": attributes.get("plan_hash"),
        "Trained": _when(here),
        "Last run": study.last_run,
        "Wall time": _times(here),
        "Figures of others": reported.provenance(source) if source else None,
    }
    return [(name, told(value)) for name, value in named.items() if value]


def _when(trials: Sequence[Trial]) -> str:
    """Say from when to when networks were trained."""
    first, last = first_began(trials), last_ended(trials)
    if first is None or last is None:
        return ""
    return f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"


def _times(trials: Sequence[Trial]) -> str:
    """Say how long a study took, and for how long of that networks were trained."""
    seconds = [trial.seconds for trial in trials if trial.seconds is not None]
    wall = wall_seconds(trials)
    if not seconds or wall is None:
        return ""
    took = duration(sum(seconds))
    return f"{duration(wall)}, for {count(len(seconds), 'training')} of {took} in all"


def told(value: Any) -> str:
    """Write a stored value for people."""
    if isinstance(value, dict):
        return printable(", ".join(f"{name} {version}" for name, version in value.items()))
    if isinstance(value, list):
        return printable(listed(list(dict.fromkeys(map(str, value)))))
    return printable(str(value))
