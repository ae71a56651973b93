"""The report page: a study in one offline HTML file, from a summary in plain words to provenance.

`build` says what is on the page, `write` makes the file. Text from a database is escaped by
Jinja; figures are JSON that a small script draws when they come into view. The page's policy lets
its own two scripts run and nothing be loaded, so that no name could do harm even unescaped.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from analysis.designs.base import Results
from analysis.figures.base import Figure
from analysis.page.parts import Section
from analysis.page.provenance import checks, provenance, reading
from analysis.summary.answers import Summary
from analysis.text import printable

TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True)
class Report:
    """Everything that is on the page, as plain text, numbers and figures."""

    title: str
    kind: str
    facts: list[str]
    summary: Summary
    sections: list[Section]
    footer: str

    @property
    def figures(self) -> list[Figure]:
        """Every figure of the page, in order."""
        return [
            figure for section in self.sections for part in section.parts for figure in part.figures
        ]


def build(
    results: Results[Any],
    *,
    findings: Sequence[Mapping[str, Any]] | None = None,
    folder: Path | None = None,
    hiplot: str | None = None,
) -> Report:
    """Compute what is on the page of a study.

    Args:
        results: of a study of any design, or of another tool.
        findings: of the methodology checks: code, severity, where, message; None: not checked.
        folder: where the database is, which checkpoints lie beside; None: no such folder.
        hiplot: address of the HiPlot page, if there is one.
    """
    sections = [
        *results.sections(folder, hiplot),
        *checks(findings),
        provenance(results.study, results.trials),
        reading(results.table.notes),
    ]
    now = datetime.now(UTC)
    return Report(
        title=printable(results.study.name),
        kind=results.title,
        facts=list(results.table.facts),
        summary=results.summary(),
        sections=sections,
        footer=f"Written by fmnist-study on {now:%Y-%m-%d %H:%M} UTC.",
    )


def write(report: Report, path: Path) -> Path:
    """Write the page, whole or not at all, and return its path.

    Raises:
        OSError: the file cannot be written.
    """
    page = render(report)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_text(page, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def render(report: Report) -> str:
    """Return the page as HTML."""
    from plotly import offline

    plotly, script = offline.get_plotlyjs(), _template("report.js")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.filters["embed"] = embed
    return environment.get_template("report.html.j2").render(
        report=report,
        policy=_policy(plotly, script),
        css=Markup(_template("report.css")),
        plotly=Markup(plotly),
        script=Markup(script),
    )


def embed(value: Any) -> Markup:
    """Write a value as JSON that can stand inside a script element, whatever its texts say."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _template(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _policy(*scripts: str) -> str:
    """Allow these scripts only, no other code of any kind, and nothing from outside the page."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in scripts
    )
    return (
        # Plotly styles its elements as it goes, and compiles the shaders' code of parallel
        # coordinates by itself.
        f"default-src 'none'; script-src {hashes} 'unsafe-eval'; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
