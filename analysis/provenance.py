"""Where a study's figures come from: command, device, versions, data, date, and what they took."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from analysis import reported
from analysis.summary.costs import wall_seconds
from analysis.text import printable
from analysis.trials import Study, Trial
from analysis.wording import count, listed
from fmnist_common.text import duration


def facts(study: Study, trials: Sequence[Trial]) -> list[tuple[str, str]]:
    """Return names of facts and what is known of them, those that are not known left out."""
    attributes, dataset = study.attributes, study.dataset
    source = study.plan.get("source")
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
        "Trained": _when(trials),
        "Last run": study.last_run,
        "Wall time": _times(trials),
        "Figures of others": reported.provenance(source) if source else None,
    }
    return [(name, told(value)) for name, value in named.items() if value]


def last_ended(trials: Sequence[Trial]) -> datetime | None:
    """Return when the last training ended; None: none has, or nobody knows."""
    return max((trial.completed for trial in trials if trial.completed), default=None)


def _when(trials: Sequence[Trial]) -> str:
    """Say from when to when networks were trained."""
    first = min((trial.started for trial in trials if trial.started), default=None)
    last = last_ended(trials)
    if first is None or last is None:
        return ""
    return f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"


def _times(trials: Sequence[Trial]) -> str:
    """Say how long a study took, and for how long of that networks were trained."""
    seconds = [trial.seconds for trial in trials if trial.seconds is not None]
    wall = wall_seconds(trials)
    if not seconds or wall < 0.1:  # an imported trial ends when it begins
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
