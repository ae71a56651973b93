"""Claims of a plan's source about its factors, judged by what was measured here.

They are judged as the rows of the study's own table are, and all comparisons that the claims of a
study need are one family, so that no claim is proven that the table does not prove. One is
contradicted only where its opposite is proven, and holds only where it is proven
itself; that levels are alike, by differences that are proven to be negligible.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from analysis.claim_levels import Levels, combination_text, levels_of
from analysis.quantity import Quantity
from analysis.reported import ReportedRow, data_reasons
from analysis.statistics.block_design import Comparison
from analysis.statistics.comparisons import Judged
from analysis.statistics.effect_sizes import ROUNDING
from analysis.statistics.effects import BySeed, judge_comparisons
from analysis.statistics.power import ALPHA
from analysis.trials import Study, Trial
from analysis.wording import listed
from fmnist_common.designs import variant_key
from fmnist_common.text import level_text

NEGLIGIBLE = 0.25  # points of accuracy that would not matter, where neither claim nor plan says
FEWEST = 2  # pairs, without which nothing is known of a spread

VERDICTS = {
    "holds": "proven, in every comparison that the claim needs; that levels are alike, or one is "
    "no worse, by bounds on their differences, whatever p is",
    "contradicted": "the opposite is proven",
    "not decided": "chance may explain what was measured",
    "not comparable": "ours were trained on other data or for another time",
    "too few": "fewer than two pairs of trainings",
    "not run": "no trial of what is compared has finished",
    "not judged": "the plan holds it in words only",
}


@dataclass(frozen=True, kw_only=True)
class JudgedClaim:
    """A claim, and what becomes of it. Differences of accuracies are fractions."""

    number: int  # in the plan, from 1
    text: str
    about: str = ""  # what of it was judged, in the plan's terms
    level: str | None = None  # of the comparison that decided, or comes nearest to it
    other: str | None = None
    reported: float | None = None  # level minus other, by the source's own figures
    against_itself: str | None = None  # what the source's own figures say against the claim
    n: int = 0  # pairs behind ours
    difference: float | None = None  # level minus other, ours
    low: float | None = None  # 95 %, of all comparisons of the claim together
    high: float | None = None
    p_adjusted: float | None = None  # of no difference, corrected for the same
    at_least: float | None = None  # of `no_worse`: what it holds by, such that more is better
    at_most: float | None = None  # of `no_effect`: likewise, to either side
    verdict: str = "not judged"  # a key of VERDICTS
    reasons: Sequence[str] = ()  # why it is not comparable

    @property
    def compared(self) -> str:
        """The comparison in words."""
        return f"{self.level} - {self.other}" if self.level is not None else ""


@dataclass(frozen=True)
class Contrast:
    """One level minus another; more is better."""

    level: str
    other: str
    delta: float
    low: float | None
    high: float | None
    least: float | None  # it is at least that: one-sided, 95 %
    most: float | None  # it is at most that, to either side: one-sided, 95 %
    p: float | None
    p_negligible: float | None
    n: int

    @property
    def proven(self) -> bool:
        """Whether there is a difference."""
        return self.p is not None and self.p <= ALPHA

    def turned(self) -> "Contrast":
        """Return the other level minus this one, of which no bound is known."""
        low, high = (None if end is None else -end for end in (self.high, self.low))
        return replace(self, level=self.other, other=self.level, delta=-self.delta, low=low,
                       high=high, least=None)  # fmt: skip


Pairs = Sequence[tuple[str, str]]
Rule = Callable[[Sequence[Contrast], float | None], tuple[str, Contrast]]


def _ahead(contrasts: Sequence[Contrast], _: float | None) -> tuple[str, Contrast]:
    """Judge that a level is ahead of every other."""
    against = [one for one in contrasts if one.proven and one.delta < 0]
    nearest = min(against or contrasts, key=lambda one: one.delta)
    if against:
        return "contradicted", nearest
    return ("holds" if all(one.proven for one in contrasts) else "not decided"), nearest


def _behind(contrasts: Sequence[Contrast], margin: float | None) -> tuple[str, Contrast]:
    """Judge that a level is behind every other."""
    verdict, nearest = _ahead([one.turned() for one in contrasts], margin)
    return verdict, nearest.turned()


def _not_behind(contrasts: Sequence[Contrast], margin: float | None) -> tuple[str, Contrast]:
    """Judge that a level is at most negligibly behind every other."""
    verdict, nearest = _ahead(contrasts, margin)
    least = [one.least for one in contrasts]
    if margin is not None and all(bound is not None and bound > -margin for bound in least):
        return "holds", min(contrasts, key=lambda one: one.delta)
    return ("not decided" if verdict == "holds" else verdict), nearest


def _alike(contrasts: Sequence[Contrast], margin: float | None) -> tuple[str, Contrast]:
    """Judge that no two levels differ by more than what is negligible."""
    chances = [one.p_negligible for one in contrasts]
    same = margin is not None and all(p is not None and p <= ALPHA for p in chances)
    proven = [] if same else [one for one in contrasts if one.proven]
    widest = max(proven or contrasts, key=lambda one: abs(one.delta))
    verdict = "holds" if same else "contradicted" if proven else "not decided"
    return verdict, widest if widest.delta >= 0 else widest.turned()


RULES: Mapping[str, Rule] = {
    "best": _ahead,
    "better": _ahead,
    "worse": _behind,
    "no_worse": _not_behind,
    "no_effect": _alike,
}
OF_ALIKE = ("no_worse", "no_effect")


def judge_claims(
    study: Study, trials: Sequence[Trial], rows: Iterable[ReportedRow], *, strict: bool = False
) -> list[JudgedClaim]:
    """Judge every claim of a study's plan.

    Args:
        study: with a plan; for what its source's figures say against it, the plan is enough.
        trials: all of its trials.
        rows: its reported figures beside ours.
        strict: judge every comparison by its own pairs alone, and correct by Holm.
    """
    claims = study.plan.get("claims") or []
    asked = {
        number: _asked(number, study.plan, claim, said, trials)
        for number, claim in enumerate(claims, 1)
        if (said := _said(claim)) is not None
    }
    given = _Results(study, list(rows), asked, strict)
    return [given.judge(number, claim) for number, claim in enumerate(claims, 1)]


@dataclass(frozen=True)
class _Asked:
    """What a claim compares: levels of a factor or combinations, and the pairs of them."""

    number: int  # of the claim
    levels: Levels
    pairs: Pairs
    family: Hashable  # claims of one family are corrected together

    def key(self, level: str) -> Hashable:
        """Return what names a level among all that the family compares."""
        key = self.levels.keys[level]
        return (self.number, key) if self.levels.of_cells else key

    def samples(self) -> dict[Comparison, tuple[BySeed, BySeed]]:
        """Return the values of both sides of each comparison: others with the claimed level."""
        return {
            (self.key(other), self.key(level)): self.levels.sample(other, level)
            for level, other in self.pairs
        }


def _said(claim: Mapping[str, Any]) -> str | None:
    return next((word for word in RULES if word in claim), None)


def _asked(
    number: int,
    plan: Mapping[str, Any],
    claim: Mapping[str, Any],
    said: str,
    trials: Sequence[Trial],
) -> _Asked:
    levels = levels_of(plan, claim, trials)
    # Levels that are averaged over the same cells are judged with each other, others apart.
    apart = None if levels.of_cells or levels.of_variants else number
    return _Asked(number, levels, _pairs(claim, said, levels), (levels.design, apart))


@dataclass(frozen=True)
class _Results:
    """What claims are judged by."""

    study: Study
    rows: Sequence[ReportedRow]
    asked: Mapping[int, _Asked]  # by a claim's number
    strict: bool

    def judge(self, number: int, claim: Mapping[str, Any]) -> JudgedClaim:
        """Judge one claim."""
        words = JudgedClaim(number=number, text=str(claim["text"]))
        said = _said(claim)
        if said is None:
            return words
        quantity, asked = self.study.quantity, self.asked[number]
        levels, pairs = asked.levels, asked.pairs
        margin = _margin(self.study.plan, claim, quantity) if said in OF_ALIKE else None
        words = replace(
            words,
            about=_about(claim, said, pairs, quantity.gap(margin) if margin else ""),
            against_itself=_against_itself(said, pairs, levels),
            reasons=self._reasons(pairs, levels),
            verdict="not run",
        )
        contrasts = self._contrasts(asked, margin)
        if not contrasts:
            return words
        verdict, nearest = RULES[said](contrasts, margin)
        if any(levels.lost & {*pair} for pair in pairs):
            verdict = "not decided"  # other seeds of a level that failed may be the easier ones
        words = replace(
            words,
            at_least=nearest.least if said == "no_worse" else None,
            at_most=nearest.most if said == "no_effect" else None,
        )
        return _told(words, verdict, nearest, levels)

    def _contrasts(self, asked: _Asked, margin: float | None) -> list[Contrast]:
        """Judge a claim's comparisons, together with those of all other claims of its family."""
        together = [other for other in self.asked.values() if other.family == asked.family]
        samples = {key: both for other in together for key, both in other.samples().items()}
        if not asked.pairs:
            return []
        judged = judge_comparisons(
            asked.levels.design, samples, asked.levels.values, margin, strict=self.strict
        )
        pairs = {
            (asked.key(other), asked.key(level)): (level, other) for level, other in asked.pairs
        }
        return [
            _contrast(*names, judged[key])
            for key, names in pairs.items()
            if judged[key].delta is not None
        ]

    def _reasons(self, pairs: Pairs, levels: Levels) -> list[str]:
        """Say what keeps the claim and ours from being about the same trainings."""
        keys = {levels.keys[name] for pair in pairs for name in pair}
        of = [r for r in self.rows if levels.of_all_rows or variant_key(r.changes) in keys]
        reasons = [*data_reasons(self.study), *(reason for row in of for reason in row.reasons)]
        return list(dict.fromkeys(reasons))


def _told(words: JudgedClaim, verdict: str, nearest: Contrast, levels: Levels) -> JudgedClaim:
    """Tell a verdict with the comparison that it rests on, unless that is none."""
    if nearest.n < FEWEST:
        verdict = "too few"
    shown = nearest if levels.sign > 0 else nearest.turned()  # as the figure is, not as it is good
    theirs = levels.theirs.get(nearest.level), levels.theirs.get(nearest.other)
    return replace(
        words,
        level=nearest.level,
        other=nearest.other,
        reported=None if theirs[0] is None or theirs[1] is None else theirs[0] - theirs[1],
        n=nearest.n,
        difference=shown.delta,
        low=shown.low,
        high=shown.high,
        p_adjusted=nearest.p,
        verdict="not comparable" if words.reasons else verdict,
    )


def _margin(plan: Mapping[str, Any], claim: Mapping[str, Any], of: Quantity) -> float | None:
    """Return what would not matter, in the unit of the values; None: nobody said."""
    said: float | None = claim.get("negligible") or plan.get("negligible")
    if of.is_accuracy:
        return (said or NEGLIGIBLE) / 100
    return said


def _pairs(claim: Mapping[str, Any], said: str, levels: Levels) -> list[tuple[str, str]]:
    """List what is compared: the claimed level with each other; if alike, all with each other.

    Of the others one of which a training failed says nothing; the claimed one stays.
    """
    if said == "no_effect":
        return list(combinations(levels.keys, 2))
    claimed = _name(claim[said])
    others = [_name(claim["than"])] if "than" in claim else list(levels.keys)
    sound = [name for name in others if name != claimed and name in levels.keys]
    if claimed not in levels.keys:
        return []
    return [(claimed, name) for name in sound if "than" in claim or name not in levels.lost]


def _name(level: Any) -> str:
    return combination_text(level) if isinstance(level, dict) else level_text(level)


def _contrast(level: str, other: str, judged: Judged) -> Contrast:
    """Turn what was judged of the other level minus the claimed one."""
    delta = -(judged.delta or 0.0)
    low, high = (None if end is None else -end for end in (judged.delta_high, judged.delta_low))
    half = None if judged.bound is None else judged.bound - abs(delta)
    return Contrast(
        level,
        other,
        delta,
        low,
        high,
        least=None if half is None else delta - half,
        most=judged.bound,
        p=judged.p_adjusted,
        p_negligible=judged.p_negligible,
        n=judged.compared,
    )


def _about(claim: Mapping[str, Any], said: str, pairs: Pairs, margin: str) -> str:
    """Say what of a claim is judged: `pooling: max worse than avg, where dropout is 0.2`."""
    given = [f"{name} is {level_text(level)}" for name, level in claim.get("with", {}).items()]
    where = f", where {listed(given)}" if given else ""
    if said == "no_effect":
        levels = listed([*dict.fromkeys(name for pair in pairs for name in pair)] or ["levels"])
        return f"{claim.get('factor')}: {levels} differ by at most {margin or 'nothing'}{where}"
    level = claim[said]
    of = ", ".join(level) if isinstance(level, dict) else claim.get("factor")
    others = f" than {level_text(claim['than'])}" if "than" in claim else " than all others"
    word = {"best": "better", "no_worse": "no worse"}.get(said, said)
    within = f" by more than {margin}" if margin else ""
    return f"{of}: {_name(level)} {word}{others}{within}{where}"


def _against_itself(said: str, pairs: Pairs, levels: Levels) -> str | None:
    """Say where the source's own figures contradict its claim of an order."""
    sign = {"best": 1, "better": 1, "worse": -1}.get(said)
    theirs = [pair for pair in pairs if {*pair} <= levels.theirs.keys()]
    if sign is None or not theirs:
        return None
    claimed = theirs[0][0]
    own, others = levels.theirs[claimed], {pair[1]: levels.theirs[pair[1]] for pair in theirs}
    best = max(others, key=lambda name: sign * others[name])
    if sign * (others[best] - own) < ROUNDING:
        return None
    last = all(sign * (other - own) > 0 for other in others.values()) and len(others) > 1
    end, order = ("lowest", "highest") if sign > 0 else ("highest", "lowest")
    rank = f"the {end} of all {len(others) + 1}" if last else f"not the {order}"
    return (
        f"By its own table, {claimed} has {100 * own:.2f} %, {rank}; "
        f"{best} has {100 * others[best]:.2f} %."
    )
