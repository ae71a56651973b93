"""What can be said of a study of another tool: what is best, and that nothing can be judged."""

from analysis.progress import Progress
from analysis.summary.answers import SURE, Sentences
from analysis.text import printable


def answers(now: Progress) -> tuple[str, Sentences]:
    """Return the headline and the sentences on a study without a plan, with a finished trial."""
    headline = (
        "Nothing is best: what finished has failed, too."
        if now.best is None
        else f"The best is {printable(now.best.variant)}, with {now.objective} {now.best.mean:.6g}."
    )
    return headline, {
        SURE: [
            "This study has no plan of fmnist-study, so no baseline and no planned seeds: no "
            "difference can be judged."
        ]
    }
