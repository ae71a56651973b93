"""The first screen of a study: what was found, in the page's words, then one table.

All of it fits `SCREEN` lines of 80 columns, whatever the study: an answer that has no room, and the
other tables, are printed on request.
"""

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from analysis.designs.base import Results
from analysis.summary.answers import (
    COSTS,
    MATTERS,
    MISSING,
    MUCH,
    SURE,
    UNPROVEN,
    Answer,
    Summary,
)
from analysis.table_formats import WIDTH, aligned
from analysis.tables.brief import Brief
from analysis.text import printable

SCREEN = 45  # lines
PAGES = 4  # of these, which whoever prints the screen has for what follows
URGENT = (MISSING, MUCH, UNPROVEN, MATTERS, SURE, COSTS)  # where there is no room for all
FEWEST = 20  # columns of labels
MARKS = {"better": "+", "worse": "-"}


@dataclass(frozen=True)
class Line:
    """A line of text, and how it may be set off: headline, better, worse."""

    text: str
    tone: str = ""


def first_screen(results: Results[Any]) -> list[Line]:
    """Lay out what a reader wants first: facts, headline, answers, the one table."""
    brief = results.brief()
    table = [] if brief is None else [Line(""), *_table(brief)]
    about = _about(results)
    told = results.summary()
    headline = [Line(text, "headline") for text in textwrap.wrap(told.headline, WIDTH)]
    room = SCREEN - PAGES - len(about) - len(headline) - len(table)
    return [*about, *headline, *_answers(told, room), *table]


def whole_summary(told: Summary) -> list[Line]:
    """Lay the headline and every answer out."""
    headline = [Line(text, "headline") for text in textwrap.wrap(told.headline, WIDTH)]
    return [*headline, *_answers(told, sum(len(_wrapped(answer)) for answer in told.answers))]


def _about(results: Results[Any]) -> list[Line]:
    """Name the study and what was run; how far it is only where that is not all of it."""
    now, facts = results.table.progress, list(results.table.facts)
    if now.missing == 0 and now.counts.keys() == {"finished"}:
        facts = [fact for fact in facts if not fact.startswith("trials")]
    facts = [": ".join([printable(results.study.name), *facts[:1]]), *facts[1:]]
    return [
        Line(text) for fact in facts for text in textwrap.wrap(fact, WIDTH, subsequent_indent="  ")
    ]


def _answers(told: Summary, room: int) -> list[Line]:
    """Lay out the answers that fit, the most urgent ones first of all, in the page's order."""
    by_question = {answer.question: _wrapped(answer) for answer in told.answers}
    shown = set()
    for question in URGENT:
        lines = by_question.get(question, [])
        if len(lines) <= room or question == MISSING:
            shown.add(question)
            room -= len(lines)
    return [
        Line(text) for question, lines in by_question.items() if question in shown for text in lines
    ]


def _wrapped(answer: Answer) -> list[str]:
    text = f"{answer.question}: {' '.join(answer.sentences)}"
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def _table(brief: Brief) -> Iterator[Line]:
    """Lay a table out: proven rows are marked, a group is named in its first row only."""
    yield Line(brief.title)
    head, *rows = aligned(brief.columns, left=set())
    labels = list(_labels(brief))
    room = min(max(map(len, labels)), max(FEWEST, WIDTH - 1 - len(head)))
    yield Line(f"{'':{room}} {head}".rstrip())
    for label, row, claim in zip(labels, rows, brief.claims, strict=True):
        if len(label) > room:  # a long label takes a line for itself
            yield Line(label, claim)
        yield Line(f"{label if len(label) <= room else '':{room}} {row}".rstrip(), claim)
    for note in brief.notes:
        yield from (Line(text) for text in textwrap.wrap(note, WIDTH, subsequent_indent="  "))


def _labels(brief: Brief) -> Iterator[str]:
    width = max(len(group) for group, _ in brief.labels)
    last = None
    for (group, name), claim in zip(brief.labels, brief.claims, strict=True):
        yield f"{MARKS.get(claim, '')!s:1} {'' if group == last else group:{width}} {name}".rstrip()
        last = group
