"""The table of a search: its best candidates, how much of that is luck, and what matters."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from analysis import mirrored
from analysis.csv_text import csv_text
from analysis.inference_cost import flat
from analysis.progress import FEWEST_RUNS, Progress, facts, progress, ranking
from analysis.quantity import Quantity, record
from analysis.statistics.candidates import (
    NOISE_SOURCES,
    Candidate,
    Curve,
    Epochs,
    WinnersCurse,
    baseline,
    best_so_far,
    epochs,
    on_front,
    ranked,
    tried,
    validation_images,
    winners_curse,
)
from analysis.statistics.effects import Row, columns
from analysis.statistics.importance import Importances, Share, importances
from analysis.statistics.marginal import Marginal, marginals
from analysis.table_formats import Block, Page, for_scale, joined, spreads
from analysis.text import percent, printable
from analysis.trials import Study, Trial
from fmnist_common.text import level_text

SHOWN = 10  # candidates in text, Markdown and LaTeX; CSV and JSON have all
CHANGES = "differs from the baseline in"


@dataclass(frozen=True)
class SearchTable:
    """The results of a search. Accuracies are fractions."""

    study: str
    dataset: str | None
    subset: int | None  # training images drawn from the data set; None: all
    seeds: int | None
    search: dict[str, Any]  # the plan's: trials, sampler, pruner, objectives, space
    progress: Progress
    facts: list[str]  # what was run, and how much of it is there
    epochs: Epochs | None
    candidates: list[Candidate]  # best first
    curse: WinnersCurse | None
    importances: Importances
    marginals: list[Marginal]
    curve: Curve  # the best so far
    front: list[Candidate]  # best accuracy first; empty with a single objective
    quantity: Quantity  # what is compared
    test_use: str  # what test data were used for
    notes: list[str]  # what a reader must know to read the figures, in plain words

    @property
    def objectives(self) -> list[str]:
        """Names of the objectives."""
        return list(self.search.get("objectives", ["val_accuracy"]))

    @property
    def baseline(self) -> Candidate | None:
        """The baseline's candidate, if it has finished."""
        return baseline(self.candidates)

    def page(self) -> Page:
        """Lay the table out for readers."""
        return Page(printable(self.study), self.facts, _blocks(self), self.notes)

    def csv(self) -> str:
        """Write a row per candidate: fractions at full precision, empty where not known."""
        return _csv(self)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form; keys are only ever added."""
        return _as_dict(self)


def search_table(study: Study, trials: Sequence[Trial]) -> SearchTable:
    """Compute the table of a search; takes seconds where there is enough to judge importance."""
    plan = study.plan
    search = plan["search"]
    quantity = study.quantity
    candidates = ranked(trials, **ranking(study))
    cost = epochs(plan, trials)
    now = progress(study, trials)
    images = validation_images(plan, study.dataset, candidates[0] if candidates else None)
    if not quantity.is_accuracy:
        images = None
    lower, fractions = quantity.lower_is_better, quantity.is_accuracy
    curse = winners_curse(
        candidates, tried(trials), images, lower_is_better=lower, fractions=fractions
    )
    judged = _turned(trials) if lower else trials
    shares = importances(judged, search.get("sampler"))
    curve = best_so_far(judged)
    front = on_front(candidates, study.directions) if len(study.directions) > 1 else []
    return SearchTable(
        study=study.name,
        dataset=plan.get("dataset") or study.dataset.get("name"),
        subset=plan.get("subset"),
        seeds=plan.get("seeds"),
        search=search,
        progress=now,
        facts=[
            *facts(study, now),
            # Of results of others, nobody knows how they were searched.
            *([] if plan.get("imported") else [_search_fact(search)]),
            *_epochs_fact(cost),
        ],
        epochs=cost,
        candidates=candidates,
        curse=curse,
        importances=shares,
        marginals=marginals(trials, fractions=fractions),
        curve=replace(curve, best=-curve.best) if lower else curve,
        quantity=quantity,
        test_use=study.test_use,
        front=front,
        notes=_notes(study, candidates, curse, shares, front),
    )


def _turned(trials: Sequence[Trial]) -> list[Trial]:
    """Turn values of which less is better, for estimates that look for the highest."""
    return [
        trial if trial.value is None else replace(trial, value=-trial.value) for trial in trials
    ]


def _search_fact(search: Mapping[str, Any]) -> str:
    objectives = ", ".join(search.get("objectives", []))
    return printable(
        f"sampler {search.get('sampler')}, pruner {search.get('pruner')}"
        + (f", objectives {objectives}" if objectives else "")
    )


def _epochs_fact(cost: Epochs | None) -> list[str]:
    if cost is None or not cost.full:
        return []
    share = f"{100 * cost.spent / cost.full:.0f}"
    extra = f"; {cost.replicates:,} more for replicates" if cost.replicates else ""
    saved = f"; pruning saved {cost.saved_by_pruning:,}" if cost.saved_by_pruning else ""
    return [f"epochs: {cost.spent:,} of {cost.full:,} ({share} %){saved}{extra}"]


def _blocks(table: SearchTable) -> list[Block]:
    blocks = []
    ranks = {candidate.number: rank for rank, candidate in enumerate(table.candidates, 1)}
    if table.candidates:
        shown = table.candidates[:SHOWN]
        if table.baseline is not None and table.baseline not in shown:
            shown = [*shown, table.baseline]
        blocks.append(
            Block(
                heading(table),
                candidate_columns(table.quantity, shown, ranks),
                below=CHANGES,
            )
        )
    if table.front:
        blocks.append(
            Block(
                f"Pareto front of {', '.join(map(_words, table.objectives))}",
                front_columns(table.front, ranks, table.objectives),
                below=CHANGES,
            )
        )
    if table.importances.parameters:
        blocks.append(
            Block(
                "What matters: share of the importance in %, and its 95 % bootstrap interval",
                {
                    "parameter": [printable(row.parameter) for row in table.importances.parameters],
                    "PED-ANOVA": _shares([row.ped_anova for row in table.importances.parameters]),
                    "fANOVA": _shares([row.fanova for row in table.importances.parameters]),
                },
                labels=1,
            )
        )
    return blocks


def heading(table: SearchTable) -> str:
    """Return what a table of candidates is headed."""
    quantity = table.quantity
    if quantity.is_accuracy:
        tested = any(candidate.test_accuracy_mean is not None for candidate in table.candidates)
        return f"Best candidates in %{f' (test: {table.test_use})' if tested else ''}"
    return f"Best candidates by {quantity.axis}{_direction(quantity)}"


def _direction(quantity: Quantity) -> str:
    return " (lower is better)" if quantity.lower_is_better else ""


def candidate_columns(
    quantity: Quantity, candidates: Sequence[Candidate], ranks: Mapping[int, int]
) -> dict[str, list[str]]:
    """Lay out what candidates reach and cost, a column per figure."""
    return {
        "rank": [str(ranks[candidate.number]) for candidate in candidates],
        "candidate": [printable(candidate.variant) for candidate in candidates],
        "n": [str(candidate.n) for candidate in candidates],
        quantity.noun: spreads(
            quantity,
            [(candidate.val_accuracy_mean, candidate.val_accuracy_std) for candidate in candidates],
        ),
        "95 % interval": joined(
            _bounds(quantity, candidate.val_accuracy_low, candidate.val_accuracy_high)
            for candidate in candidates
        ),
        "test": mirrored.marked(
            [percent(candidate.test_accuracy_mean) for candidate in candidates], candidates
        ),
        "parameters": [_number(candidate.parameters) for candidate in candidates],
        "seconds": [_number(candidate.seconds, 1) for candidate in candidates],
        CHANGES: [changes(candidate) for candidate in candidates],
    }


def front_columns(
    candidates: Sequence[Candidate], ranks: Mapping[int, int], objectives: Sequence[str]
) -> dict[str, list[str]]:
    """Lay out what candidates reach in each objective."""
    by_name = {
        _words(name): [
            percent(candidate.objectives[index])
            if name.endswith("accuracy")
            else _number(candidate.objectives[index])
            for candidate in candidates
        ]
        for index, name in enumerate(objectives)
    }
    return {
        "rank": [str(ranks[candidate.number]) for candidate in candidates],
        "candidate": [printable(candidate.variant) for candidate in candidates],
        "n": [str(candidate.n) for candidate in candidates],
        **by_name,
        CHANGES: [changes(candidate) for candidate in candidates],
    }


def _words(objective: str) -> str:
    return "accuracy" if objective == "val_accuracy" else printable(objective)


def _shares(shares: Sequence[Share | None]) -> list[str]:
    return joined(
        ("", "", "")
        if share is None
        else (percent(share.share, 1), *_interval(share.low, share.high, digits=1))
        for share in shares
    )


def _interval(low: float | None, high: float | None, digits: int = 2) -> tuple[str, str]:
    if low is None or high is None:
        return "", ""
    return f"[{percent(low, digits)},", f"{percent(high, digits)}]"


def _bounds(quantity: Quantity, low: float | None, high: float | None) -> tuple[str, str]:
    if low is None or high is None:
        return "", ""
    return f"[{quantity.number(low)},", f"{quantity.number(high)}]"


def _number(value: float | None, digits: int = 0) -> str:
    if value is None or not math.isfinite(value):
        return ""
    small = value != 0 and abs(value) < 1 and not digits  # a latency of 0.0041 s is not 0
    return f"{value:.3g}" if small else f"{value:,.{digits}f}"


def changes(candidate: Candidate) -> str:
    """Write what a candidate differs from the baseline in."""
    words = (
        f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={level_text(value)}"
        for name, value in candidate.changes.items()
    )
    return printable(" ".join(words))


def _notes(
    study: Study,
    candidates: Sequence[Candidate],
    curse: WinnersCurse | None,
    shares: Importances,
    front: Sequence[Candidate],
) -> list[str]:
    notes = []
    if candidates:
        notes.append(
            f"Rank: {_rule(study)} ± is the standard deviation over n seeds, [ ] the 95 % "
            "t-interval of their mean. Pruned and failed trials are in no figure."
        )
    if curse is not None:
        notes += _curse_notes(study.quantity, curse)
    if front:
        notes.append(
            "Pareto front: no other candidate is at least as good in every objective and better "
            "in one. A candidate with few seeds may be there by luck."
        )
    if shares.parameters:
        notes.append(
            f"Importance, from the {shares.trials} finished trials of the search: PED-ANOVA, what "
            "it takes to be among the best tenth; fANOVA, each parameter's own share of the "
            "variance. Pruned trials are not in it: a level that was always pruned early cannot "
            "show how bad it is."
        )
        notes += [f"{printable(name)}: {why}." for name, why in shares.left_out.items()]
    if shares.warning:
        notes.append(f"Importance: {shares.warning}")
    test = candidates[0].test_accuracy_mean if candidates else None
    return notes + mirrored.notes(candidates) + for_scale(test, study.dataset.get("test_images"))


def _rule(study: Study) -> str:
    quantity = study.quantity
    end = "lowest" if quantity.lower_is_better else "highest"
    if study.plan.get("imported"):
        return (
            f"the {end} mean {quantity.name} comes first, among settings with at least "
            f"{FEWEST_RUNS} runs where there are such; those with fewer come after."
        )
    return (
        f"candidates with the most seeds come first, among them the {end} mean {quantity.name}: no "
        "single lucky run beats a candidate confirmed on more seeds."
    )


def _curse_notes(quantity: Quantity, curse: WinnersCurse) -> list[str]:
    if curse.candidates < 2:
        return []
    lift = "lower" if quantity.lower_is_better else "lift"
    end = "low" if quantity.lower_is_better else "high"
    name = printable(curse.variant)
    over = f" a seed, divided by the root of {curse.n} seeds" if curse.n > 1 else " a seed"
    notes = [
        f"Winner's curse: the best of {curse.candidates} candidates looks better than it is. Were "
        f"all equally good, luck alone would {lift} it by {curse.expected_maximum:.2f} standard "
        f"deviations ({quantity.gap(curse.noise)}{over}). So {name}'s "
        f"{quantity.amount(curse.val_accuracy_mean)} may be too {end} by up to "
        f"{quantity.gap(curse.overestimate)}; {quantity.amount(curse.corrected)} is the careful "
        f"estimate. The standard deviation is {NOISE_SOURCES[curse.noise_source]}."
    ]
    if curse.later_mean is not None:
        seeds = "seed" if curse.later_n == 1 else f"{curse.later_n} seeds"
        low, high = _bounds(quantity, curse.later_low, curse.later_high)
        among = (
            f"; they decided only among the {curse.repeated} candidates that were repeated, which "
            f"{lift}s them by at most {quantity.gap(curse.later_overestimate)}"
            if curse.repeated > 1
            else ""
        )
        notes.append(
            f"On the further {seeds}, which did not pick it out of the {curse.candidates}, {name} "
            f"reaches {quantity.amount(curse.later_mean)}{f' {low} {high}' if low else ''}{among}."
        )
    return notes


def _csv(table: SearchTable) -> str:
    front = {candidate.number for candidate in table.front}
    names = [field.name for field in fields(Row) if field.name != "inference"]
    costs = dict.fromkeys(
        name for candidate in table.candidates for name in flat(candidate.inference)
    )
    head = ["rank", "candidate", *names, *costs, "val_accuracy_low", "val_accuracy_high"]
    head += ["value_mean", "value_std", "value_low", "value_high", "pareto"]
    rows = []
    for rank, candidate in enumerate(table.candidates, 1):
        words = {
            "rank": rank,
            "candidate": printable(candidate.variant),
            "pareto": candidate.number in front if table.front else None,
            "changes": printable(
                " ".join(f"{name}={level_text(value)}" for name, value in candidate.changes.items())
            ),
        }
        row = record(table.quantity, asdict(candidate))
        rows.append(row | flat(candidate.inference) | words)
    return csv_text([*head, "changes"], rows)


def _as_dict(table: SearchTable) -> dict[str, Any]:
    best = table.candidates[0] if table.candidates else None
    base = table.baseline
    ranks = {candidate.number: rank for rank, candidate in enumerate(table.candidates, 1)}

    def listed(candidate: Candidate, *, config: bool = False) -> dict[str, Any]:
        named = {"rank": ranks[candidate.number], "candidate": candidate.number}
        named |= record(table.quantity, asdict(candidate))
        del named["number"]
        if not config:
            del named["config"]
        return named | {
            "objectives": dict(zip(table.objectives, candidate.objectives, strict=False))
        }

    return {
        "study": table.study,
        "dataset": table.dataset,
        "design": "search",
        "subset": table.subset,
        "seeds": table.seeds,
        "search": table.search,
        "counts": table.progress.counts,
        "damaged": table.progress.damaged,
        "missing_results": table.progress.missing_results,
        "planned": table.progress.planned,
        "missing": table.progress.missing,
        "replicates": table.progress.replicates,
        "epochs": None if table.epochs is None else asdict(table.epochs),
        "baseline": asdict(Row(**columns([]))) if base is None else listed(base),
        "effects": [],
        "candidates": [listed(candidate) for candidate in table.candidates],
        "best": None if best is None else listed(best, config=True),
        "winners_curse": None if table.curse is None else asdict(table.curse),
        "importance": asdict(table.importances),
        "marginal_effects": [asdict(candidate) for candidate in table.marginals],
        "best_so_far": {
            "trials": table.curve.trials.tolist(),
            "epochs": table.curve.epochs.tolist(),
            "val_accuracy": [best if math.isfinite(best) else None for best in table.curve.best],
        },
        "pareto": [listed(candidate) for candidate in table.front],
        "notes": table.notes,
    }
