"""The analysis of variance of a factorial, as tables and notes."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from analysis.quantity import ACCURACY, Quantity
from analysis.statistics.factorial import (
    HIGHER,
    PAIRWISE,
    REPLICATES,
    UNTESTED,
    Anova,
    Term,
)
from analysis.statistics.factorial_model import SEEDS, WITHIN_SEEDS, PairMean
from analysis.statistics.power import ALPHA
from analysis.table_formats import Block, joined
from analysis.text import p_text, percent, printable
from fmnist_common.text import level_text

FURTHER = "further interactions"


def verdict(term: Term) -> str:
    """Say in a word whether a term matters, at 5 % after Holm's correction."""
    return "matters" if term.p_holm is not None and term.p_holm <= ALPHA else "not proven"


def blocks(result: Anova | str, quantity: Quantity = ACCURACY) -> list[Block]:
    """Lay out the terms by what they explain, and the pairs of proven interactions."""
    if isinstance(result, str):
        return []
    rows = [
        *((name(term.factors), term, verdict(term)) for term in result.terms),
        *([("seeds (blocks)", result.block, "")] if result.block else []),
        *([(FURTHER, result.higher, "")] if result.higher else []),
        ("error", result.error, ""),
    ]
    terms = [term for _, term, _ in rows]
    columns = {
        "source": [label for label, *_ in rows],
        "share": [f"{percent(term.eta_squared, 1)} %" for term in terms],
        "df": [str(term.degrees) for term in terms],
        "F": ["" if term.f is None else f"{term.f:,.2f}" for term in terms],
        "p": [p_text(term.p_holm) for term in terms],
        "verdict": [word for *_, word in rows],
    }
    proven = {term.factors for term in result.terms if verdict(term) == "matters"}
    pairs = [pair for pair in result.pairs if pair.factors in proven]
    title = f"What explains the variance of the {quantity.noun}"
    return [Block(title, columns, labels=1), *([_pair_block(pairs, quantity)] if pairs else [])]


def _pair_block(pairs: list[PairMean], quantity: Quantity) -> Block:
    columns = {
        "factors": [name(pair.factors) for pair in pairs],
        "levels": [", ".join(printable(level_text(level)) for level in p.levels) for p in pairs],
        "n": [str(pair.n) for pair in pairs],
        quantity.noun: [quantity.number(pair.mean) for pair in pairs],
        "beyond the sum": joined(
            (
                quantity.signed(pair.deviation),
                f"[{quantity.number(pair.low)},",
                f"{quantity.number(pair.high)}]",
            )
            for pair in pairs
        ),
    }
    unit = f" in {quantity.unit}" if quantity.unit else ""
    beyond = "points" if quantity.unit == "%" else "what is"
    title = (
        f"Proven interactions: {quantity.noun}{unit}, and {beyond} beyond the sum of both effects"
    )
    return Block(title, columns, nested=True)


def name(factors: Iterable[str]) -> str:
    """Name a term by its factors: `pooling × dropout`."""
    return " × ".join(map(printable, factors))


SOURCES = {
    REPLICATES: "what is left when every cell and every seed has its own mean",
    HIGHER: "the interactions of three and more factors",
    PAIRWISE: "the interaction of the factors",
    UNTESTED: "the interactions that are in no row",
}


ONE_SEED = (
    "Nothing is tested: all runs share one seed, and what that seed does with a factor cannot be "
    "told from what the factor does. Run more seeds."
)
NO_REPLICATES = (
    "No cell was run twice, so its interactions stand in for noise: if they are more than that, "
    "these tests are too cautious."
)
NO_INTERACTION = "No interaction is proven: the effects of the factors may simply add up."
NOT_BALANCED = (
    "Not balanced: some cells have no result, or fewer. Effects are those of a model that is "
    "fitted to the others, and shares do not add up to 100 %."
)


def notes(result: Anova | str) -> list[str]:
    """Say how the analysis was done, and what it leaves open."""
    if isinstance(result, str):
        return [f"No analysis of variance: {result}."]
    return [
        "Variance: share is a term's part of all squared deviations (eta squared, type II). "
        + " ".join(_tests(result)),
        *_interactions(result),
        *([] if result.balanced else [NOT_BALANCED]),
        *(f"{printable(what)}: left out, as {why}." for what, why in result.left_out.items()),
    ]


def _tests(result: Anova) -> list[str]:
    """Say what terms are judged against, if they are."""
    if result.one_seed:
        return [ONE_SEED]
    by_seeds = any(term.error_source in (SEEDS, WITHIN_SEEDS) for term in result.terms)
    against = f"against the error, {SOURCES[result.error_source]} (df {result.error.degrees})"
    if by_seeds:
        against = (
            "against how the term differs between seeds, as the cells of a seed share its luck, or "
            "against what is left within seeds, whichever proves less"
        )
    return [
        f"F: {against}. p: corrected by Holm for all {len(result.terms)} factors and pairs. "
        f"Matters: p is at most {ALPHA}.",
        *([] if by_seeds or result.error_source == REPLICATES else [NO_REPLICATES]),
    ]


def _interactions(result: Anova) -> list[str]:
    interactions = [term for term in result.terms if len(term.factors) > 1]
    none = interactions and all(verdict(term) == "not proven" for term in interactions)
    return [NO_INTERACTION] if none and not result.one_seed else []


def as_dict(result: Anova | str) -> dict[str, Any]:
    """Return the keys that the analysis adds to a report; `anova` is None where there is none."""
    if isinstance(result, str):
        return {"anova": None, "main_effects": [], "interactions": []}
    record = asdict(result)
    levels, pairs = record.pop("levels"), record.pop("pairs")
    record["terms"] = [
        {"name": " × ".join(term.factors), **asdict(term), "verdict": verdict(term)}
        for term in result.terms
    ]
    return {"anova": record, "main_effects": levels, "interactions": pairs}


def csv_rows(result: Anova | str) -> list[dict[str, Any]]:
    """Return a line per term, then one per pair of levels."""
    if isinstance(result, str):
        return []
    terms = [
        *((name(term.factors), term) for term in result.terms),
        *([("seeds", result.block)] if result.block else []),
        *([(FURTHER, result.higher)] if result.higher else []),
        ("error", result.error),
    ]
    lines: list[dict[str, Any]] = []
    for label, term in terms:
        figures = asdict(term)
        del figures["factors"]
        word = verdict(term) if term.factors else None
        lines.append({"factor": "variance", "level": label, **figures, "verdict": word})
    for pair in result.pairs:
        lines.append(
            {
                "factor": name(pair.factors),
                "level": ", ".join(printable(level_text(level)) for level in pair.levels),
                "n": pair.n,
                "val_accuracy_mean": pair.mean,
                "delta": pair.deviation,
                "delta_low": pair.low,
                "delta_high": pair.high,
            }
        )
    return lines
