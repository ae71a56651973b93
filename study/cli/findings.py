"""What `lint` says of a study: mistakes of its method, and claims that are contradicted."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from study.lint import SEVERITIES, Finding, lint

if TYPE_CHECKING:
    from analysis.trials import Study, Trial


def findings(study: "Study", trials: "Sequence[Trial]") -> list[Finding]:
    """Find mistakes in a study, the gravest first.

    Raises:
        UserError: the plan is ours, but not valid.
    """
    found = [*lint(study.plan, trials), *contradicted_claims(study, trials)]
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


def contradicted_claims(study: "Study", trials: "Sequence[Trial]") -> list[Finding]:
    """Find the claims of a plan that its source's figures contradict, or ours."""
    from analysis.claims import judge_claims
    from analysis.reported import compare_reported
    from analysis.tables.claims import contradiction

    source = study.plan.get("source") or {}
    told = [
        (claim.number, contradiction(claim, source, study.quantity))
        for claim in judge_claims(study, trials, compare_reported(study, trials))
    ]
    return [
        Finding("contradicted-claim", "note", f"claims.{number}", message)
        for number, message in told
        if message is not None
    ]


def plan_alone(name: str, plan: Mapping[str, Any]) -> "Study":
    """Return a plan in the form of a study that has no results."""
    from analysis.trials import Study

    return Study(
        id=0,
        name=name,
        directions=("MAXIMIZE",),
        plan=dict(plan),
        dataset={},
        attributes={},
        last_run=None,
        trial_count=0,
    )
