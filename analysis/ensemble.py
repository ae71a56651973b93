"""Trained networks voting together: who votes, how good that is, against the best of them.

The members are chosen by validation accuracy. Averaged probabilities (soft voting) are Breiman's
"Bagging predictors" (Machine Learning 24, 1996) and Lakshminarayanan et al.'s deep ensembles
(NeurIPS 2017): the members' random errors cancel, those that they share stay.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis import mirrored
from analysis.statistics.proportions import PairedShares, Proportion, compare, share
from analysis.table_formats import WRITERS, Block, Page
from analysis.text import percent, printable
from analysis.trials import Trial, finished

# Fewer images that none of the members was trained on say too little to be shown.
ENOUGH_SHARED = 100


@dataclass(frozen=True)
class Member:
    """Who votes: a trial's network, or the random forest, which is no trial."""

    trial: int | None
    variant: str | None
    seed: int | None
    val_accuracy: float | None  # on its own validation images
    bytes: int  # of its file
    test_time_flip: bool = False  # whether it is asked about the mirror image, too


@dataclass(frozen=True)
class Vote:
    """How well the members do on some images, each alone and all together."""

    members: list[Proportion]  # in their order
    ensemble: Proportion
    against_best: PairedShares  # of the ensemble with the first member


@dataclass(frozen=True)
class Ensemble:
    """An ensemble of the best trials of a study, the best one first."""

    study: str
    dataset: str
    top: int
    distinct: bool
    members: list[Member]
    test: Vote
    shared: int  # images of the training set that validated every member
    validation: Vote | None  # on these images; None: there are too few of them


def candidates(trials: Sequence[Trial], *, distinct: bool) -> list[Trial]:
    """List the finished trials that have weights, by validation accuracy and then by number.

    Args:
        trials: of one study.
        distinct: only the first trial of each variant.
    """
    stored = [trial for trial in finished(trials) if trial.checkpoint is not None]
    stored.sort(key=lambda trial: (-(trial.value or 0.0), trial.number))
    if not distinct:
        return stored
    first = {trial.label: trial for trial in reversed(stored)}
    return [trial for trial in stored if first[trial.label] is trial]


def vote(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> Vote:
    """Let the members vote with their averaged probabilities.

    Args:
        probabilities: shape (m, n, c), of m members, the best one first, for n images.
        labels: true classes, shape (n,).
    """
    right = probabilities.argmax(2) == labels  # (m, n)
    together = probabilities.mean(0).argmax(1) == labels  # (n,)
    return Vote(
        members=[share(int(answers.sum()), len(labels)) for answers in right],
        ensemble=share(int(together.sum()), len(labels)),
        against_best=compare(together, right[0]),
    )


def as_dict(result: Ensemble) -> dict[str, Any]:
    """Return everything, JSON-ready. Accuracies and differences are fractions."""
    values = asdict(result)
    alone = values["test"].pop("members")
    values["members"] = [
        {**member, "test_accuracy": test["accuracy"]}
        for member, test in zip(values["members"], alone, strict=True)
    ]
    return values


def render(result: Ensemble) -> str:
    """Write it as text."""
    return WRITERS["text"](_page(result))


def _page(result: Ensemble) -> Page:
    test = result.test
    against = test.against_best
    networks = sum(member.trial is not None for member in result.members)
    kind = "best trials of different variants" if result.distinct else "best trials"
    choice = f"the {networks} {kind}" if networks > 1 else "the best trial"
    forest = " and a random forest" if networks < len(result.members) else ""
    shares = [*test.members, test.ensemble]
    # The ensemble's votes are of mirror images, too, where those of any member are.
    asked = [*result.members, max(result.members, key=lambda member: member.test_time_flip)]
    columns = {
        "member": [*map(_title, result.members), "ensemble"],
        "val %": [*(percent(member.val_accuracy) for member in result.members), ""],
        "test %": mirrored.marked([percent(part.accuracy) for part in shares], asked),
        "95 % interval": [f"[{percent(part.low)}, {percent(part.high)}]" for part in shares],
        "MB": [f"{size / 1e6:.2f}" for size in _sizes(result.members)],
        "variant": [*(printable(member.variant or "") for member in result.members), ""],
    }
    return Page(
        title=f"{printable(result.study)}: ensemble of {len(result.members)} on {result.dataset}",
        facts=[
            f"{choice.capitalize()} by validation accuracy{forest}; probabilities are averaged."
        ],
        blocks=[Block("accuracy", columns, labels=1, below="variant")],
        notes=[
            f"Against the best single model ({_title(result.members[0])}): "
            f"{_signed(against.difference)} points on {against.images:,} test images, "
            f"95 % [{_signed(against.low)}, {_signed(against.high)}], p = {against.p_value:.3g}; "
            f"{against.only_first} images only the ensemble gets right, {against.only_second} only "
            "the single model.",
            "Paired by test image: Tango's score interval (1998), McNemar's exact test (1947). "
            "Intervals of accuracies: Wilson (1927). They hold the luck of the test images, not "
            "that of another training.",
            "The test set is looked at here once, for this one choice, which validation accuracy "
            "made. To choose K by it would be selection on test data.",
            *mirrored.notes(result.members),
            _validation_note(result),
        ],
    )


def _validation_note(result: Ensemble) -> str:
    chosen = "val %: each on its own validation images, which chose it."
    if result.validation is None:
        return (
            f"{chosen} Of the ensemble it is left out: each seed holds other images back, and only "
            f"{result.shared} of them trained none of the members ({ENOUGH_SHARED} needed)."
        )
    vote = result.validation
    return (
        f"{chosen} On the {result.shared:,} images that none of the members was trained on: "
        f"ensemble {_interval(vote.ensemble)}, best single model {_interval(vote.members[0])} %; "
        "the members were chosen on them, so both are rather high."
    )


def _title(member: Member) -> str:
    return "random forest" if member.trial is None else f"trial {member.trial}, seed {member.seed}"


def _sizes(members: Sequence[Member]) -> list[int]:
    sizes = [member.bytes for member in members]
    return [*sizes, sum(sizes)]


def _interval(part: Proportion) -> str:
    return f"{percent(part.accuracy)} [{percent(part.low)}, {percent(part.high)}]"


def _signed(fraction: float) -> str:
    return f"{100 * fraction:+.2f}"
