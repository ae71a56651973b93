"""How far a study is: its trials by state, what is planned, what is best so far."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from analysis.failures import failures, is_diverged
from analysis.looks import comparisons, seed_path
from analysis.quantity import Quantity
from analysis.ranking import leader
from analysis.statistics.candidates import first_trials, ranked, replicates, settled
from analysis.statistics.effects import summarize
from analysis.statistics.rows import planned_cells, planned_points
from analysis.statistics.sequential import Path
from analysis.text import printable
from analysis.trials import Study, Trial, finished
from fmnist_common.designs import variant_key

FEWEST_RUNS = 3  # of an imported setting that may be the best, where any has so many
STATES = {
    "COMPLETE": "finished",
    "FAIL": "failed",
    "PRUNED": "pruned",
    "RUNNING": "running",
    "WAITING": "waiting",
    "DAMAGED": "damaged",
}


@dataclass(frozen=True)
class Best:
    """The variant with the best mean objective so far, as `ranking.leader` has it."""

    variant: str
    n: int
    mean: float
    std: float | None


@dataclass(frozen=True)
class Running:
    """A trial in training, and its last finished epoch (0: none yet)."""

    number: int
    variant: str
    seed: int | None
    epoch: int


@dataclass(frozen=True)
class Sureness:
    """How far a study is that stops when it is sure."""

    levels: int  # comparisons
    verdicts: dict[str, int]  # of those that are decided: better, worse, negligible, failed
    round: int  # seeds that its present round leads to; 0: it is over
    reason: str  # why it is over, else ""


@dataclass(frozen=True)
class Progress:
    """Where a study stands. A cell is a (variant, seed); of a search, a trial of its budget."""

    study: str
    objective: str  # what "best" is measured by
    quantity: Quantity
    counts: dict[str, int]  # trials by state, in words; states without trials are left out
    replicates: dict[str, int]  # those of them that a search ran on further seeds, unplanned
    planned: int | None  # cells; None where the study has no fixed plan
    done: int  # cells with a finished trial; of a search, with any result: pruned, diverged
    diverged: int  # cells that will never have one, as they would diverge again
    missing: int | None  # cells that are still to be trained
    epochs: int | None  # planned for a trial
    best: Best | None
    running: list[Running]
    seconds_per_trial: float | None  # mean of the finished trials
    damaged: int  # trials that are not what was written, and count nowhere
    missing_results: str | None  # why not all that was written may be here
    combinations: dict[str, int]  # trials on an ablation's path, unplanned: by state, in words
    sureness: Sureness | None  # None: the study has a fixed number of seeds
    reused: dict[str, int]  # trials that were taken over, by the study that trained them


def progress(study: Study, trials: Sequence[Trial]) -> Progress:
    """Count and compare the trials of a study.

    "Best" is by the study's objective, which for ours is validation accuracy: never test data. In
    a search it is the first of the ranking, whose rule is told there.
    """
    done = finished(trials)
    further = _beyond(study.plan, trials)
    search = first_trials(trials) if study.plan.get("design") == "search" else None
    budget = study.plan.get("search", {}).get("trials")
    planned = planned_cells(study.plan) if search is None else budget
    cells = len(done) - len(finished(further)) if search is None else sum(map(settled, search))
    beyond = {trial.number for trial in further}
    diverged = sum(
        map(is_diverged, failures(study.plan, (t for t in trials if t.number not in beyond)))
    )
    over = cells + (diverged if search is None else 0)
    path = seed_path(study.plan, trials)
    if path is not None:  # of further rounds nobody knows yet
        planned = over + len(path.wanted)
    return Progress(
        study=study.name,
        objective=study.compared,
        quantity=study.quantity,
        counts=_counts(trials),
        replicates={} if search is None else _counts(replicates(trials)),
        planned=planned,
        done=cells,
        diverged=diverged,
        missing=None if planned is None else max(0, planned - over),
        epochs=study.plan.get("epochs"),
        best=_best(study, trials, done) if search is None else _best_candidate(study, trials),
        running=[
            Running(trial.number, trial.label, trial.seed, trial.epochs)
            for trial in trials
            if trial.state == "RUNNING"
        ],
        seconds_per_trial=summarize(
            [trial.seconds for trial in done if trial.seconds is not None]
        ).mean,
        damaged=sum(trial.state == "DAMAGED" for trial in trials),
        missing_results=study.missing,
        combinations=_counts(further),
        sureness=None if path is None else _sureness(path, study.plan),
        reused=dict(Counter(trial.reused["study"] for trial in done if trial.reused)),
    )


def _sureness(path: Path, plan: Mapping[str, Any]) -> Sureness:
    levels = len(comparisons(plan))
    verdicts: Counter[str] = Counter(decision.verdict for decision in path.decisions.values())
    del verdicts["undecided"]
    return Sureness(levels, dict(verdicts), path.round, path.reason)


def _sureness_line(progress: Progress) -> str:
    sureness = progress.sureness
    if sureness is None:
        return ""
    words = ", ".join(f"{count} {verdict}" for verdict, count in sureness.verdicts.items())
    decided = f"{sum(sureness.verdicts.values())} of {sureness.levels} levels decided"
    where = f"in the round up to {sureness.round} seeds" if sureness.round else sureness.reason
    return f"{decided}{f' ({words})' if words else ''}; {where}"


def _beyond(plan: Mapping[str, Any], trials: Iterable[Trial]) -> list[Trial]:
    """Pick the trials of an ablation that are not in its design: combinations on its path."""
    if plan.get("design") != "ablation":
        return []
    design = planned_points(plan)
    return [
        trial
        for trial in trials
        if trial.variant is not None and variant_key(trial.changes) not in design
    ]


def _counts(trials: Iterable[Trial]) -> dict[str, int]:
    states = Counter(trial.state for trial in trials)
    return {word: states[state] for state, word in STATES.items() if states[state]}


def _best(study: Study, trials: Sequence[Trial], done: Sequence[Trial]) -> Best | None:
    sign = -1 if study.minimizes else 1
    values: dict[str, dict[Hashable, float]] = defaultdict(dict)
    for trial in done:
        if trial.value is not None:
            values[trial.label][trial.seed] = sign * trial.value
    failed = {trial.label for trial in failures(study.plan, trials)}
    planned = study.plan.get("seeds")
    if study.plan.get("imported"):  # nobody planned as many runs as the setting with the most has
        planned = FEWEST_RUNS
    variant = leader(values, failed, planned)
    if variant is None:
        return None
    reached = summarize([sign * value for value in values[variant].values()])
    assert reached.mean is not None  # it has a value
    return Best(variant, reached.n, reached.mean, reached.std)


def ranking(study: Study) -> dict[str, Any]:
    """Return how a search's candidates are ranked, as arguments of `ranked`."""
    sure_from = FEWEST_RUNS if study.plan.get("imported") else None
    return {
        "lower_is_better": study.quantity.lower_is_better,
        "sure_from": sure_from,
        "fractions": study.quantity.is_accuracy,
    }


def _best_candidate(study: Study, trials: Sequence[Trial]) -> Best | None:
    for candidate in ranked(trials, **ranking(study))[:1]:
        if candidate.val_accuracy_mean is not None:
            return Best(
                candidate.variant,
                candidate.n,
                candidate.val_accuracy_mean,
                candidate.val_accuracy_std,
            )
    return None


def as_dict(progress: Progress) -> dict[str, Any]:
    """Return the JSON form; accuracies are fractions, times are seconds."""
    return asdict(progress)


def count_line(progress: Progress) -> str:
    """Say in one line how many trials there are of which kind, and how many cells are missing.

    Without those beside the plan, of which nobody knows yet how many there will be: a search's
    replicates, an ablation's combinations.
    """
    beside = Counter(progress.replicates) + Counter(progress.combinations)
    planned_kind = Counter(progress.counts) - beside
    parts = [f"{count:,} {word}" for word, count in planned_kind.items()]
    if progress.diverged:
        failed = f"{planned_kind['failed']:,} failed"
        parts[parts.index(failed)] += f" ({progress.diverged:,} diverged)"
    if progress.missing:
        parts.append(f"{progress.missing:,} missing")
    planned = "" if progress.planned is None else f" of {progress.planned:,} planned"
    return f"trials{planned}: {', '.join(parts) or 'none'}"


def _beside_line(progress: Progress) -> str:
    for what, counts in (
        ("replicates of the best on further seeds", progress.replicates),
        ("combinations on the ablation path", progress.combinations),
    ):
        if counts:
            parts = ", ".join(f"{count:,} {word}" for word, count in counts.items())
            return f"beside them, {what}: {parts}"
    return ""


def reused_line(progress: Progress) -> str:
    """Say how many trials another study has trained; nothing where there are none."""
    if not progress.reused:
        return ""
    parts = (f"{count:,} by study {printable(name)}" for name, count in progress.reused.items())
    return f"of them, not trained here but taken over: {', '.join(parts)}"


def _damage_line(progress: Progress) -> str:
    parts = []
    if progress.damaged:
        parts.append(f"{progress.damaged:,} trials are not what was written, and count nowhere")
    if progress.missing_results:
        parts.append(progress.missing_results)
    return f"DAMAGED: {'; '.join(parts)}" if parts else ""


def facts(study: Study, progress: Progress) -> list[str]:
    """Say what was run, and how much of it is there."""
    plan, images = study.plan, study.dataset.get("train_images")
    dataset = plan.get("dataset") or study.dataset.get("name")
    subset = plan.get("subset")
    words = [printable(dataset)] if dataset else []
    if subset or images:
        of = f" of {images:,}" if subset and images else ""
        words.append(f"{subset or images:,}{of} training images")
    most = plan.get("max_seeds")  # of a study that gives each level what it takes
    budget = [(plan[name], name) for name in ("epochs", "seeds") if plan.get(name)]
    words += [
        f"up to {most} seeds" if most and name == "seeds" else _counted(count, name)
        for count, name in budget
    ]
    lines = (
        ", ".join(words),
        _origin(study),
        count_line(progress),
        reused_line(progress),
        _beside_line(progress),
        _damage_line(progress),
    )
    return [line for line in lines if line]


def _counted(count: int, name: str) -> str:
    return f"{count} {name if count != 1 else name[:-1]}"


def _origin(study: Study) -> str:
    imported = study.plan.get("imported")
    if not imported:
        return ""
    name, unit = study.quantity.name, study.quantity.unit
    figure = f"{'an' if name[:1] in 'aeiou' else 'a'} {name}{f' in {unit}' if unit else ''}"
    images = "" if imported.get("selected_on") else " of unknown images"
    better = "; lower is better" if study.quantity.lower_is_better else ""
    return printable(
        f"imported from {imported['file']}; compared is {imported['metric']}, {figure}{images}"
        f"{better}"
    )


def render(progress: Progress) -> str:
    """Write the progress as a few lines of plain text."""
    heads = (
        printable(progress.study),
        count_line(progress),
        reused_line(progress),
        _beside_line(progress),
        _damage_line(progress),
        _sureness_line(progress),
    )
    lines = [line for line in heads if line]
    best = progress.best
    if best is not None:
        foreign = progress.objective == "objective"
        value = f"{best.mean:.6g}" if foreign else progress.quantity.amount(best.mean)
        seeds = f", mean of n = {best.n}" if best.n > 1 else ""
        lines.append(f"best so far: {printable(best.variant)}, {progress.objective} {value}{seeds}")
    for trial in progress.running:
        seed = "" if trial.seed is None else f" seed {trial.seed}"
        epochs = "" if progress.epochs is None else f" of {progress.epochs}"
        lines.append(f"running: {printable(trial.variant)}{seed}, epoch {trial.epoch}{epochs}")
    if progress.seconds_per_trial is not None:
        lines.append(f"a finished trial took {progress.seconds_per_trial:.1f} s on average")
    return "\n".join(lines)
