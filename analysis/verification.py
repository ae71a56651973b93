"""Whether a stored study still is what was measured: seals, figures, weights, trainings repeated.

Three kinds of proof, each of which finds what the others cannot. Checksums find what changed
later. Figures that follow from each other, and weights that must be a trial's, find what was put
together wrongly. A training that is repeated finds what was never true, whoever has signed it.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis import weights
from analysis.statistics.candidates import pooled_std
from analysis.text import printable
from analysis.trials import Study, Trial, finished
from analysis.wording import count, listed, size

OK, WRONG, UNVERIFIED = "ok", "wrong", "not verified"
NAMED = 5  # trials that a line names; more are counted
QUANTILE = 3.29  # of the normal distribution: 999 of 1,000 differences are smaller
WITHOUT_REPLICATES = 0.01  # tolerance, a fraction, where no two seeds say how far trainings differ
ROUNDING = 1e-6  # a stored accuracy may have been computed in single precision
FIGURES = ("outcome", "best_epoch", "val_loss", "test_accuracy", "test_loss", "parameters",
           "confusion", "weights_sha256")  # fmt: skip
VERSIONS = ("torch", "fmnist-study")  # whose arithmetic a training is


@dataclass(frozen=True)
class Verification:
    """What was looked at, and what came out.

    Attributes:
        what: the subject: `seal`, `trials`, `weights`, `trial 12`, ...
        state: `ok`, `wrong` or `not verified`.
        text: what was found.
    """

    what: str
    state: str
    text: str


@dataclass(frozen=True)
class Here:
    """Where trainings are repeated: as a study stores it of its own."""

    host: str
    git_commit: str | None
    versions: Mapping[str, str]


def stored(study: Study, trials: Sequence[Trial], folder: Path) -> list[Verification]:
    """Check what can be checked without training.

    Args:
        study: which, damaged ones too.
        trials: all of its.
        folder: that the database lies in.
    """
    checks = [_seal(study), _trials(trials)]
    if study.plan.get("imported"):
        source = study.plan["imported"]["file"]
        told = f"imported from {source}: its trainings and weights are not here to be checked"
        return [*checks, Verification("weights", UNVERIFIED, printable(told))]
    if not study.plan:
        told = "another tool's study: nothing says what its figures must come to"
        return [*checks, Verification("weights", UNVERIFIED, told)]
    return [*checks, _figures(trials), _weights(trials, folder)]


def _seal(study: Study) -> Verification:
    if study.damage:
        return Verification("seal", WRONG, f"the study is damaged: {printable(study.damage)}")
    if study.left_out:
        left_out = listed([repr(name) for name in study.left_out])
        return Verification("seal", WRONG, f"attributes that are not what they must be: {left_out}")
    if study.missing:
        return Verification("seal", WRONG, printable(study.missing))
    if not study.is_sealed:
        return Verification(
            "seal", UNVERIFIED, "there is none: nobody can say what has changed since"
        )
    text = "name, plan, data set and number of trials are what was written"
    return Verification("seal", OK, text)


def _trials(trials: Sequence[Trial]) -> Verification:
    damaged = [f"{trial.number} ({trial.damage})" for trial in trials if trial.damage]
    if damaged:
        return Verification(
            "trials", WRONG, f"{count(len(damaged), 'trial')} damaged: {_some(damaged)}"
        )
    return Verification(
        "trials", OK, f"{count(len(trials), 'trial')}, each of them readable and whole"
    )


def _figures(trials: Sequence[Trial]) -> Verification:
    """Check that figures which follow from each other do."""
    done = [trial for trial in trials if trial.state == "COMPLETE"]
    faults = [f"{trial.number} ({fault})" for trial in done if (fault := _contradiction(trial))]
    if faults:
        return Verification("figures", WRONG, f"trials contradict themselves: {_some(faults)}")
    text = f"accuracies of {count(len(done), 'trial')} follow from histories and confusions"
    return Verification("figures", OK, text)


def _contradiction(trial: Trial) -> str | None:
    """Say which figures of a complete trial do not fit together; None: none."""
    accuracies = {entry.get("epoch"): entry.get("val_accuracy") for entry in trial.history}
    if accuracies and accuracies != trial.intermediate:
        return "its history is not its intermediate values"
    numbers = [value for value in accuracies.values() if isinstance(value, int | float)]
    if numbers and max(numbers) != trial.value:
        return "its accuracy is not the best of its history"
    if accuracies and accuracies.get(trial.best_epoch) != trial.value:
        return "its best epoch is another"
    confusion = trial.confusion.get("test")
    if confusion and trial.test_accuracy is not None:
        right = sum(row[i] for i, row in enumerate(confusion)) / sum(map(sum, confusion))
        if abs(right - trial.test_accuracy) > ROUNDING:
            return "its test accuracy is not that of its confusion"
    return None


def _weights(trials: Sequence[Trial], folder: Path) -> Verification:
    """Check that the weights beside a database are its trials'."""
    kept = [trial for trial in trials if trial.state == "COMPLETE" and trial.checkpoint]
    if not kept:
        return Verification("weights", UNVERIFIED, "the study keeps none")
    there = [trial for trial in kept if _exists(trial, folder)]
    if not there:
        text = f"none of {count(len(kept), 'file')} is here: only a training again can show them"
        return Verification("weights", UNVERIFIED, text)
    faults = [f"trial {trial.number} ({fault})" for trial in kept
              if (fault := weights.fault(trial, folder))]  # fmt: skip
    if faults:
        return Verification("weights", WRONG, f"{count(len(faults), 'file')}: {_some(faults)}")
    return Verification("weights", OK, f"{count(len(kept), 'file')}, each of them its trial's")


def _exists(trial: Trial, folder: Path) -> bool:
    path = weights.path_of(trial, folder)
    return path is not None and path.exists()


def _some(texts: Sequence[str]) -> str:
    more = [f"and {len(texts) - NAMED} more"] if len(texts) > NAMED else []
    return printable("; ".join([*texts[:NAMED], *more]))


def threads(trials: Iterable[Trial]) -> int | None:
    """Return the threads that trials were trained with on CPUs, as their device says."""
    for trial in trials:
        if told := re.fullmatch(r"cpu \((\d+) threads?\)", trial.device or ""):
            return int(told[1])
    return None


def tolerance(trials: Sequence[Trial]) -> float:
    """Return how far the accuracy of a repeated training may differ, a fraction.

    Where sums are rounded in another order a training takes another course, after which it differs
    from the first about as a further seed would: 999 of 1,000 differences of two replicates are
    smaller.
    """
    variants: dict[str, list[float]] = {}
    for trial in finished(trials):
        variants.setdefault(trial.label, []).append(trial.value or 0.0)
    deviation = pooled_std(list(variants.values()))
    return QUANTILE * math.sqrt(2) * deviation if deviation else WITHOUT_REPLICATES


def reservations(study: Study, trial: Trial, again: Mapping[str, Any], here: Here) -> list[str]:
    """Say why a training need not be repeated to the bit here; nothing: it must be.

    Args:
        study, trial: what is stored.
        again: the repeated training's result, as `Result.to_dict` says.
        here: where it was repeated.
    """
    attributes = study.attributes
    versions = attributes.get("versions") or {}
    pairs = [
        ("device", trial.device, again["device"]),
        ("precision", trial.precision, again["precision"]),
        ("host", attributes.get("host"), here.host),
        ("code", attributes.get("git_commit"), here.git_commit),
        *((name, versions.get(name), here.versions.get(name)) for name in VERSIONS),
    ]
    reasons = [f"{name}: {old or 'not stored'}, here {new}" for name, old, new in pairs
               if old != new or (old is None and name != "code")]  # fmt: skip
    if trial.bank != 1:
        reasons.append(f"trained in a bank of {trial.bank}, here alone")
    if not str(again["device"]).startswith("cpu"):
        reasons.append("GPUs do not promise it")
    return reasons


def failed(trial: Trial, reason: str) -> Verification:
    """Say that a trial could not be trained again."""
    return Verification(_name(trial), WRONG, printable(f"could not be trained again: {reason}"))


def _name(trial: Trial) -> str:
    return printable(f"trial {trial.number} ({trial.label}, seed {trial.seed})")


def repeated(
    trial: Trial, again: Mapping[str, Any], reasons: Sequence[str], tolerance: float
) -> Verification:
    """Compare a trial with its training repeated.

    Args:
        trial: as it is stored.
        again: the repeated training's result, as `Result.to_dict` says.
        reasons: why it need not be equal to the bit.
        tolerance: of accuracies, a fraction, where it need not.
    """
    what = _name(trial)
    differing = list(_differing(trial, again))
    if not differing:
        return Verification(what, OK, "trained again: equal to the bit, weights and history too")
    differences = _differences(trial, again)
    told = listed([f"{name} accuracy differs by {size(by)} points" for name, by in differences])
    if not reasons:
        text = f"trained again: must be equal to the bit, but {listed(differing)} differ; {told}"
        return Verification(what, WRONG, text)
    within = all(by <= tolerance for _, by in differences)
    where = f"{'within' if within else 'beyond'} the tolerance of {size(tolerance)}"
    text = f"trained again: {told}, {where} (not promised to the bit; {'; '.join(reasons)})"
    return Verification(what, OK if within else WRONG, printable(text))


def _differences(trial: Trial, again: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Return by how much each accuracy differs, a fraction; infinitely where there is none now."""
    pairs = {
        "validation": (trial.value, again["val_accuracy"]),
        "test": (trial.test_accuracy, again["test_accuracy"]),
    }
    return [
        (name, math.inf if after is None else abs(before - after))
        for name, (before, after) in pairs.items()
        if before is not None
    ]


def _differing(trial: Trial, again: Mapping[str, Any]) -> Iterator[str]:
    """Name what is not equal to the bit, of what does not depend on time."""
    if trial.value != again["val_accuracy"]:
        yield "val_accuracy"
    if _timeless(trial.history) != _timeless(again["history"]):
        yield "history"
    for name in FIGURES:
        before = getattr(trial, name)
        if before not in (None, {}) and before != again[name]:
            yield name


def _timeless(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{key: entry[key] for key in sorted(entry.keys() - {"seconds"})} for entry in history]
