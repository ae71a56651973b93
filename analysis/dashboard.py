"""What Optuna Dashboard cannot compute, as the attributes in which it keeps notes and plots.

Notes are Markdown: of a study its summary, its table and lint's findings, of a trial its course and
config. Plots are the page's figures. Nothing is written here.
"""

import html
import json
import math
import re
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from analysis import mirrored
from analysis.designs.base import Results
from analysis.documents import render
from analysis.figures.base import INK, Figure
from analysis.figures.path import ablation_path
from analysis.tables.ablation import AblationTable
from analysis.text import percent, printable
from analysis.trials import Trial
from fmnist_common.text import level_text

ELSEWHERE = ("parallel", "curves", "factors", "model")  # what it draws itself, or is too much
MOST_PLOTS = 6  # in no order: the dashboard keeps none
BARS = "▁▂▃▄▅▆▇█"

Attributes = dict[str, Any]  # of a study, in Optuna's table of system attributes


class _Collected:
    """The part of a storage that notes and plots are saved to; all of it stays in memory."""

    def __init__(self) -> None:
        self.attributes: Attributes = {}

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        del study_id
        self.attributes[key] = value

    def get_study_system_attrs(self, study_id: int) -> Attributes:
        del study_id
        return self.attributes


def study_attributes(results: Results[Any], findings: Sequence[Mapping[str, Any]]) -> Attributes:
    """Return the note and the plots of a study.

    Args:
        results: of the study.
        findings: of lint: severity, code, where, message.
    """
    from optuna_dashboard import save_plotly_graph_object

    kept = _note(study_note(results, findings))
    study = SimpleNamespace(_storage=kept, _study_id=0)
    for index, figure in enumerate(plots(results)):
        drawn = SimpleNamespace(to_json=lambda figure=figure: json.dumps(_titled(figure)))
        save_plotly_graph_object(study, drawn, graph_object_id=f"fmnist-{index}-{figure.name}")
    return kept.attributes


def trial_attributes(trial: Trial, trial_id: int) -> Attributes:
    """Return the note of a trial, whose row in the database has this id."""
    return _note(trial_note(trial), trial_id).attributes


def _note(text: str, trial_id: int | None = None) -> _Collected:
    from optuna_dashboard import save_note

    kept = _Collected()
    place = SimpleNamespace(_study_id=0)
    save_note(SimpleNamespace(storage=kept, study=place, _trial_id=trial_id), text)
    return kept


def plots(results: Results[Any]) -> list[Figure]:
    """Choose the figures that Optuna Dashboard cannot draw: effects, path, what follows."""
    figures = [
        figure
        for section in results.sections(None, None)
        if section.id not in ELSEWHERE
        for part in section.parts
        for figure in part.figures
    ]
    table = results.table
    if isinstance(table, AblationTable) and table.path is not None:
        figures.insert(1, ablation_path(table.path))
    return figures[:MOST_PLOTS]


def _titled(figure: Figure) -> dict[str, Any]:
    """Return a figure that stands by itself: with a title, and on paper, light or dark around."""
    layout = figure.layout | {
        "title": {"text": html.escape(figure.title), "font": {"size": 16, "color": INK}},
        "plot_bgcolor": figure.layout.get("paper_bgcolor", "#ffffff"),
        "margin": {"l": 16, "r": 16, "t": 64, "b": 16},
        "height": figure.height + 64,
    }
    return {"data": figure.data, "layout": layout}


def study_note(results: Results[Any], findings: Sequence[Mapping[str, Any]]) -> str:
    """Write a study's summary, findings and table in Markdown."""
    told = results.summary()
    lines = [f"**{_plain(told.headline)}**", ""]
    for answer in told.answers:
        lines += [f"*{answer.question}.* {_plain(' '.join(answer.sentences))}", ""]
    lines += ["### Checks of the method", ""]
    lines += [
        f"- **{_plain(finding['severity'])}** `{finding['code']}` ({_plain(finding['where'])}): "
        f"{_plain(finding['message'])}"
        for finding in findings
    ] or ["No methodological mistake was found."]
    return "\n".join([*lines, "", "### Results", "", render(results.table, "markdown")])


def trial_note(trial: Trial) -> str:
    """Write a trial's course and config in Markdown."""
    lines = [f"**{_plain(trial.label)}**" + ("" if trial.seed is None else f", seed {trial.seed}")]
    accuracies = [trial.intermediate[epoch] for epoch in sorted(trial.intermediate)]
    if any(map(math.isfinite, accuracies)):
        lines += ["", f"Validation accuracy by epoch: `{sparkline(accuracies)}`"]
    if trial.test_accuracy is not None:
        flip = f", {mirrored.WORDS}" if trial.test_time_flip else ""
        lines += ["", f"Test accuracy, looked at once: {percent(trial.test_accuracy)} %{flip}"]
    if trial.failure_reason:
        lines += ["", f"Failed: {_plain(trial.failure_reason)}"]
    lines += ["", *_course(trial)]
    if trial.config:
        lines += ["", "| config | value |", "|---|---|"]
        lines += [
            f"| {_plain(name)} | {_plain(level_text(value))} |"
            for name, value in trial.config.items()
        ]
    return "\n".join(lines)


def _course(trial: Trial) -> list[str]:
    if not trial.history:
        return []
    head = ["epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "learning_rate"]
    rows = [[_figure(entry.get(name)) for name in head] for entry in trial.history]
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["--:"] * len(head), *rows)]


def _figure(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else ""


def sparkline(values: Sequence[float]) -> str:
    """Draw finite values as bars of eight heights between their least and their largest."""
    finite = [value for value in values if math.isfinite(value)]
    low, span = min(finite), max(finite) - min(finite)
    return "".join(
        BARS[round((value - low) / span * 7) if span else 3] if math.isfinite(value) else " "
        for value in values
    )


def _plain(text: str) -> str:
    """Write foreign text so that Markdown takes it as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", printable(str(text)))
