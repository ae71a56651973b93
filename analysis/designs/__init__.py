"""The designs of studies. Each brings its table, its summary and its sections of the page.

A design is a class of `analysis/designs/base.py` in a file of its own, and a line here.
"""

from collections.abc import Sequence
from typing import Any

from analysis.designs.ablation import AblationResults
from analysis.designs.base import Results
from analysis.designs.factorial import FactorialResults
from analysis.designs.foreign import ForeignResults
from analysis.designs.search import SearchResults
from analysis.trials import Study, Trial

DESIGNS: dict[str, type[Results[Any]]] = {
    "ablation": AblationResults,
    "factorial": FactorialResults,
    "search": SearchResults,
}


def results(study: Study, trials: Sequence[Trial], *, strict: bool = False) -> Results[Any]:
    """Compute the results of a study by its design, however far it is.

    Args:
        study: of any design, or of another tool, which has no plan.
        trials: all of its trials, of any state.
        strict: judge every comparison by its own values alone, and correct by Holm.
    """
    if not study.plan:
        return ForeignResults(study, trials)
    design = DESIGNS.get(str(study.plan.get("design")), AblationResults)
    return design(study, trials, strict=strict)
