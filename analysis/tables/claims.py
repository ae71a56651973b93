"""The table of claims: what a source concludes, its evidence, ours, and the verdict."""

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.claims import VERDICTS, JudgedClaim
from analysis.quantity import Quantity
from analysis.table_formats import Block, joined
from analysis.text import p_text, printable

TITLE = "Claims: the first level minus the second, by the source's figures and by ours"


def blocks(
    claims: Sequence[JudgedClaim], source: Mapping[str, Any], quantity: Quantity
) -> list[Block]:
    """Lay claims out, each with the comparison that decides it or comes nearest to it."""
    if not claims:
        return []
    runs = str(source.get("runs") or "?")
    ours = joined(
        (
            quantity.signed(claim.difference),
            "" if claim.low is None else f"[{quantity.number(claim.low)},",
            "" if claim.high is None else f"{quantity.number(claim.high)}]",
        )
        for claim in claims
    )
    columns = {
        "claim": [printable(claim.text) for claim in claims],
        "compared": [printable(claim.compared or "nothing") for claim in claims],
        "theirs": ["" if c.reported is None else f"{100 * c.reported:+.2f}" for c in claims],
        "runs": ["" if claim.reported is None else runs for claim in claims],
        "ours": ours,
        "bound": [bound(claim, quantity) for claim in claims],
        "n": [str(claim.n) if claim.n else "" for claim in claims],
        "p": [p_text(claim.p_adjusted) for claim in claims],
        "verdict": [claim.verdict for claim in claims],
    }
    if not any(columns["bound"]):
        del columns["bound"]
    return [Block(TITLE, columns, nested=True)]


def bound(claim: JudgedClaim, quantity: Quantity) -> str:
    """Write what a claim of no difference holds by: `≥-0.17`, or `±0.24`."""
    if claim.at_most is not None:
        return f"±{quantity.number(claim.at_most)}"
    if claim.at_least is None:
        return ""
    sign, word = (-1, "≤") if quantity.lower_is_better else (1, "≥")
    return word + quantity.signed(sign * claim.at_least)


def notes(
    claims: Sequence[JudgedClaim], source: Mapping[str, Any], quantity: Quantity, *, looks: bool
) -> list[str]:
    """Say how claims were judged, and what each verdict means."""
    judged = [claim for claim in claims if claim.about]
    if not claims:
        return []
    lines = [
        f"Claims of {source.get('name')}: theirs in points of test accuracy, where its figures "
        f"tell, and of how many runs (?: not given); ours in {quantity.points}, over n pairs of "
        "trainings. [ ] (95 %) and p are corrected for all comparisons that the claim needs, and "
        "for no other claim; shown is the one that decides, or comes nearest to it."
    ]
    if looks:
        lines.append("Claims: p does not know that the study looked at its results as it went on.")
    words = [
        f"{word}, {why}"
        for word, why in VERDICTS.items()
        if any(claim.verdict == word for claim in claims)
    ]
    lines.append(f"Verdicts on claims: {'; '.join(words)}.")
    reasons = dict.fromkeys(reason for claim in claims for reason in claim.reasons)
    if reasons:
        lines.append(f"Claims that are not comparable: {'; '.join(reasons)}.")
    if judged:
        told = "; ".join(f"({claim.number}) {claim.about}" for claim in judged)
        lines.append(f"What was judged of each claim: {told}.")
    doubted = [claim for claim in claims if claim.against_itself]
    lines += [f"Claim {claim.number}. {claim.against_itself}" for claim in doubted]
    return list(map(printable, lines))


def contradiction(claim: JudgedClaim, source: Mapping[str, Any], quantity: Quantity) -> str | None:
    """Say what contradicts a claim: the source's own figures, or ours; None: nothing."""
    words = [claim.against_itself] if claim.against_itself else []
    if claim.verdict == "contradicted" and claim.difference is not None:
        ahead, behind = claim.level, claim.other
        if (quantity.gain(claim.difference) or 0.0) < 0:
            ahead, behind = behind, ahead
        ends = sorted(abs(end) for end in (claim.low, claim.high) if end is not None)
        interval = f" [{', '.join(map(quantity.number, ends))}]" if ends else ""
        where = claim.about.partition(", where ")[2]
        words.append(
            f"By these results{f', where {where}' if where else ''}, {ahead} is ahead of {behind} "
            f"by {quantity.gap(abs(claim.difference))}{interval}."
        )
    if not words:
        return None
    return f"{source.get('name', 'the author')} claims: {claim.text}. {' '.join(words)}"
