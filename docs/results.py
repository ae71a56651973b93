"""Recompute what pages print of the published studies: python docs/results.py [OPTION] [FILE]

FILE is the database, studies.db by default. In README and docs/ a part that is computed stands
between `<!-- results: NAME WORDS -->` and `<!-- end of results -->`, in a line or over several;
NAME is a key of `PARTS`. `--check` writes nothing, names what differs, and ends with 1 then;
`--pictures` draws the pictures of the studies first (screenshots.py, which needs Chromium).
Whatever studies the file holds, parts about others say so.
"""

import json
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from published import FIGURES, PREFIX, Published, effects_of, states

from analysis import mirrored
from analysis.claims import VERDICTS, JudgedClaim
from analysis.compare import compare
from analysis.designs.base import Results
from analysis.documents import render
from analysis.first_screen import first_screen
from analysis.provenance import facts
from analysis.quantity import ACCURACY
from analysis.reported import ReportedRow
from analysis.table_formats import escape_markdown
from analysis.tables.claims import bound
from analysis.tables.effects import EffectTable
from analysis.text import p_text, percent
from analysis.training_times import last_ended
from analysis.trials import finished
from analysis.wording import count

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PICTURES = ROOT / "docs" / "pictures.json"  # picture -> study -> its state
PART = re.compile(r"(<!-- results: ([^>]*?) -->)(.*?)(<!-- end of results -->)", re.DOTALL)
OF_STUDIES = ("terminal", "hiplot", "report", "results")  # kinds of pictures
# Plans of one network each.
RECORDS = ("record", "record-without-flip", "record-80-epochs", "record-300k", "record-500k")
COMPARED = ("agrees", "within range", "higher", "lower")
DECIDED = ("holds", "contradicted", "not decided")
Part = Callable[..., str]


def table(columns: Mapping[str, Sequence[str]], words: int = 1) -> str:
    """Write a table, of which the first `words` columns are words and the others figures."""
    ruler = ["---"] * words + ["--:"] * (len(columns) - words)
    rows = [list(map(escape_markdown, row)) for row in zip(*columns.values(), strict=True)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [list(columns), ruler, *rows])


# The parts.


def overview(published: Published) -> str:
    """Every study: its budget, where and when it was trained, and how long that took."""
    rows = []
    for name, found in published:
        known, plan = dict(facts(found.study, found.trials)), found.study.plan
        images = plan.get("subset") or found.study.dataset.get("train_images") or 0
        budget = [
            f"{images:,} images",
            f"{plan.get('epochs')} epochs",
            f"{plan.get('seeds')} seeds",
        ]
        rows.append(
            [
                name,
                ", ".join(budget),
                known.get("Devices", "?"),
                f"{last_ended(found.trials) or '?'!s:.10}",
                f"{len(finished(found.trials)):,}",
                known.get("Wall time", "?").partition(",")[0],
            ]
        )
    heads = "study", "budget", "device", "date", "trainings", "wall time"
    return table({head: [row[place] for row in rows] for place, head in enumerate(heads)}, 4)


def claims(published: Published) -> str:
    """Every claim of every project: their evidence, ours, and the verdict."""
    if not published.claims:
        return "No published study judges a claim."
    projects: dict[str, list[tuple[Results[Any], JudgedClaim]]] = {}
    for project, found, claim in published.claims:
        projects.setdefault(project, []).append((found, claim))
    parts = [_told_of_claims(published)]
    for project, entries in projects.items():
        runs = entries[0][0].study.plan["source"].get("runs")
        behind = f"{count(runs, 'run')} a figure" if runs else "number of runs not given"
        rows = {
            "claim": [_claim(claim) for _, claim in entries],
            "verdict": [claim.verdict for _, claim in entries],
            "compared": [claim.compared for _, claim in entries],
            "theirs": [
                "" if c.reported is None else f"{100 * c.reported:+.2f}" for _, c in entries
            ],
            "ours": [_difference(found, claim) for found, claim in entries],
            "bound": [bound(claim, found.study.quantity) for found, claim in entries],
            "p": [p_text(claim.p_adjusted) for _, claim in entries],
            "n": [str(claim.n or "") for _, claim in entries],
        }
        doubts = [claim.against_itself for _, claim in entries if claim.against_itself]
        told = [f"**{escape_markdown(project)}**, {behind}", table(rows, 3), *doubts]
        parts.append("\n\n".join(told))
    return "\n\n".join(parts)


def _points(difference: float | None) -> str:
    return "" if difference is None else f"{100 * difference:+.2f}"


def _claim(claim: JudgedClaim) -> str:
    return f"{claim.text} ({claim.about})" if claim.about else claim.text


def _difference(found: Results[Any], claim: JudgedClaim) -> str:
    quantity = found.study.quantity
    if claim.difference is None:
        return ""
    ends = (
        ""
        if claim.low is None
        else f" [{quantity.number(claim.low)}, {quantity.number(claim.high)}]"
    )
    return f"{quantity.signed(claim.difference)}{ends}"


def _told_of_claims(published: Published) -> str:
    """Count the claims by what became of them."""
    verdicts = Counter(claim.verdict for _, _, claim in published.claims)
    projects = len({project for project, _, _ in published.claims})
    of = f"{count(verdicts.total(), 'claim')} of {count(projects, 'project')}"
    told = [f"{word}: {verdicts[word]}" for word in VERDICTS if verdicts[word]]
    return f"Of {of}, {', '.join(told)}."


def reported(published: Published) -> str:
    """Every reported accuracy beside ours, after a count by project."""
    rows = [(whose, row) for _, whose, row in published.reported if row.verdict != "not reported"]
    if not rows:
        return "No published study repeats a reported figure."
    projects = list(dict.fromkeys(whose for whose, _ in rows))
    of = {whose: [row for name, row in rows if name == whose] for whose in projects}
    counts = {whose: Counter(row.verdict for row in of[whose]) for whose in projects}
    words = list(dict.fromkeys(row.verdict for _, row in rows))
    summary = {"project": projects, "figures": [str(len(of[whose])) for whose in projects]}
    summary |= {word: [str(counts[whose][word]) for whose in projects] for word in words}
    parts = [table(summary)]
    if why := dict.fromkeys(reason for _, row in rows for reason in row.reasons):
        parts.append(f"Not comparable: {'; '.join(why)}.")
    parts += [f"**{escape_markdown(whose)}**\n\n{_beside(of[whose])}" for whose in projects]
    return "\n\n".join(parts)


def _beside(rows: Sequence[ReportedRow]) -> str:
    columns = {
        "variant": [row.variant for row in rows],
        "verdict": [row.verdict for row in rows],
        "reported": [_theirs(row) for row in rows],
        "ours": [percent(row.ours.test_accuracy) for row in rows],
        "difference": [_interval(row) for row in rows],
        "n": [str(row.n) for row in rows],
    }
    return table(columns, 2)


def _theirs(row: ReportedRow) -> str:
    if row.test_accuracy_range is None:
        return percent(row.reported.test_accuracy)
    return " to ".join(map(percent, row.test_accuracy_range))


def _interval(row: ReportedRow) -> str:
    if row.difference is None:
        return ""
    low, high = percent(row.difference_low), percent(row.difference_high)
    return f"{100 * row.difference:+.2f} [{low}, {high}]"


def every_study(published: Published) -> str:
    """Each study: its command, where it was trained, and the screen that `report` prints."""
    return "\n\n".join(
        f"### {name}\n\n{screen(published, name)}\n\n{provenance(published, name)}"
        for name in published.studies
        if not name.startswith(f"{PREFIX}record")
    )


def networks(published: Published) -> str:
    """The networks of plans that hold nothing but one, each trained on several seeds."""
    found = [(name, published.of(f"{PREFIX}{name}")) for name in RECORDS]
    trained = [(name, own) for name, own in found if own is not None and finished(own.trials)]
    if not trained:
        return "No such network has been trained yet."
    measured = [effects_of(own).baseline for _, own in trained]
    rows = {
        "network": [f"{name}: {own.study.plan.get('description', '')}" for name, own in trained],
        "parameters": [FIGURES["parameters"](own) for _, own in trained],
        "epochs": [str(own.study.plan["epochs"]) for _, own in trained],
        "validation": mirrored.marked([FIGURES["validation"](own) for _, own in trained], measured),
        "test": mirrored.marked([FIGURES["test"](own) for _, own in trained], measured),
        "seeds": [FIGURES["seeds"](own) for _, own in trained],
        "seconds a seed": [FIGURES["seconds"](own) for _, own in trained],
    }
    return "\n\n".join([table(rows), *mirrored.notes(measured)])


def difference(published: Published, first: str, second: str) -> str:
    """How much better the second study's baseline is than the first's."""
    a, b = published.of(first), published.of(second)
    if a is None or b is None:
        return "(not trained yet)"
    row = compare(a.study, a.trials, b.study, b.trials).common[0]
    low, high = ACCURACY.signed(row.delta_low), ACCURACY.signed(row.delta_high)
    return f"{ACCURACY.signed(row.delta)} points [{low}, {high}], n = {row.compared}"


def goal(published: Published, name: str, percents: str) -> str:
    """Whether the mean test accuracy of a study's baseline reaches a goal, or misses it."""
    found = published.of(name)
    mean = None if found is None else effects_of(found).baseline.test_accuracy_mean
    if mean is None:
        return f"not trained yet: `{name}`"
    short = float(percents) - 100 * mean
    return "reached" if short <= 0 else f"missed by {short:.2f} points"


def screen(published: Published, name: str) -> str:
    """What `report` prints of a study, and its picture if there is one."""
    found = published.of(name)
    if found is None:
        return f"Not trained yet: `{name}`."
    lines = "\n".join(line.text for line in first_screen(found))
    picture = f"results-{name.removeprefix(PREFIX)}.webp"
    shown = f"\n\n![{name}]({picture})" if (ROOT / "docs" / picture).is_file() else ""
    return f"`fmnist-study report {name}`\n\n```text\n{lines}\n```{shown}"


def provenance(published: Published, name: str) -> str:
    """Where the figures of a study come from."""
    found = published.of(name)
    if found is None:
        return ""
    known = facts(found.study, found.trials)
    lines = [
        f"- {fact.lower() if not fact[:2].isupper() else fact}: "
        + (f"`{repeatable(value)}`" if fact == "Command" else escape_markdown(value))
        for fact, value in known
    ]
    return "\n".join(lines)


def repeatable(command: str) -> str:
    """Leave out of a command where one machine had its data and its database."""
    words = shlex.split(command)
    places = [n for n, word in enumerate(words) if word in ("--data-dir", "--storage")]
    left_out = {*places, *(place + 1 for place in places)}
    return shlex.join(word for n, word in enumerate(words) if n not in left_out)


def effects(published: Published, name: str) -> str:
    """The table of a study's effects."""
    found = published.of(name)
    if found is None:
        return f"Not trained yet: `{name}`."
    return render(found.table, "markdown").split("**")[2].strip()


def budget(published: Published, name: str) -> str:
    """What a study was trained on, and for how long."""
    found = published.of(name)
    return f"not trained yet: `{name}`" if found is None else found.table.facts[0]


def figure(published: Published, name: str, what: str, *words: str) -> str:
    """One figure of a study: a key of `FIGURES`, with its words."""
    found = published.of(name)
    if what not in FIGURES:
        raise ValueError(f"results: figure {name} {what!r}: choose from {', '.join(FIGURES)}")
    if found is None or not finished(found.trials):
        return "(not trained yet)"
    return FIGURES[what](found, *words)


def findings(published: Published) -> str:
    """The three findings of README, of those that the studies tell."""
    told = [
        text
        for of in (_ablation, _claimed, _record, _agreement, _pooling, _noise)
        if (text := of(published))
    ]
    return "\n".join(f"{number}. {text}" for number, text in enumerate(told[:3], 1))


def quoted(_: Published, *words: str) -> str:
    """A figure that nobody measured here: a goal, or of somebody else."""
    return " ".join(words)


PARTS: Mapping[str, Part] = {
    "overview": overview,
    "claims": claims,
    "reported": reported,
    "studies": every_study,
    "networks": networks,
    "goal": goal,
    "difference": difference,
    "screen": screen,
    "provenance": provenance,
    "effects": effects,
    "budget": budget,
    "figure": figure,
    "findings": findings,
    "quoted": quoted,
}


# README's findings.


def _headline(published: Published, name: str) -> str:
    found = published.of(name)
    if found is None:
        return ""
    return f"{escape_markdown(found.summary().headline)} (`{name}`: {found.table.facts[0]})"


def _ablation(published: Published) -> str:
    return _headline(published, f"{PREFIX}ablation")


def _pooling(published: Published) -> str:
    return _headline(published, f"{PREFIX}pooling")


def _claimed(published: Published) -> str:
    """Say how many claims survived, and name the one that is contradicted by most."""
    judged = [entry for entry in published.claims if entry[2].verdict in DECIDED]
    if not judged:
        return ""
    verdicts = Counter(claim.verdict for _, _, claim in judged)
    projects = len({project for project, _, _ in judged})
    told = ", ".join(f"{word}: {verdicts[word]}" for word in DECIDED)
    text = (
        f"{count(len(judged), 'claim')} of {count(projects, 'public project')}, repeated with "
        f"replicate seeds: {told} ([Results](docs/results.md))."
    )
    wrong = [entry for entry in judged if entry[2].verdict == "contradicted"]
    if not wrong:
        return text
    project, found, claim = max(wrong, key=lambda entry: abs(entry[2].difference or 0.0))
    quote = escape_markdown(f'"{claim.text}" ({project}): {claim.compared} is ')
    return f"{text} {quote}{escape_markdown(_difference(found, claim))} points."


def _record(published: Published) -> str:
    found = published.of(f"{PREFIX}record")
    if found is None or not isinstance(found.table, EffectTable) or not found.table.baseline.n:
        return ""
    row = found.table.baseline
    return (
        f"The best network that validation data alone found has {row.parameters:,} parameters and "
        f"{FIGURES['test'](found)} test accuracy, the mean of {row.n} seeds"
        f"{', each ' + mirrored.WORDS if row.test_time_flip else ''} "
        "([how it was found](docs/results.md#how-the-record-was-found))."
    )


def _noise(published: Published) -> str:
    """Say how much of a single figure is its seed."""
    found = published.of(f"{PREFIX}ablation")
    if found is None or effects_of(found).spread is None:
        return ""
    seed, pair = FIGURES["seed-spread"](found), FIGURES["spread"](found)
    return (
        f"The seed alone moves a validation accuracy by {seed} points (median standard deviation), "
        f"a difference of two settings on the same seed by {pair} (`{found.study.name}`): a single "
        "run tells little."
    )


def _agreement(published: Published) -> str:
    verdicts = Counter(row.verdict for _, _, row in published.reported)
    total = sum(verdicts[word] for word in COMPARED)
    if not total:
        return ""
    told = ", ".join(f"{word}: {verdicts[word]}" for word in COMPARED if verdicts[word])
    return (
        f"{total} accuracies that public projects report, beside ours, chosen on validation data: "
        f"{told} ([Results](docs/results.md))."
    )


# Pages.


def rewritten(text: str, published: Published) -> str:
    """Return a page with every part computed anew.

    Raises:
        ValueError: a part is none that there is, or names what its study does not have.
    """

    def part(match: re.Match[str]) -> str:
        opening, words, before, closing = match.groups()
        name, *rest = words.split()
        if name not in PARTS:
            raise ValueError(f"results: {name!r}: choose from {', '.join(PARTS)}")
        edge = "\n" if before.startswith("\n") else ""
        return f"{opening}{edge}{PARTS[name](published, *rest)}{edge}{closing}"

    return PART.sub(part, text)


def outdated_pictures(published: Published) -> list[str]:
    """Name the pictures that show a study as it no longer is."""
    made, now = json.loads(PICTURES.read_text(encoding="utf-8")), states(published)
    return [
        picture
        for picture, shown in made.items()
        if any(now.get(study) != state for study, state in shown.items())
    ]


def main() -> int:
    """Rewrite the pages, or say which differ."""
    check = "--check" in sys.argv[1:]
    named = [Path(word) for word in sys.argv[1:] if not word.startswith("-")]
    if "--pictures" in sys.argv[1:]:
        script = Path(__file__).with_name("screenshots.py")
        subprocess.run([sys.executable, script, *OF_STUDIES], check=True)
    published, differing = Published(*named[:1]), []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        new = rewritten(text, published)
        if new != text:
            differing.append(str(page.relative_to(ROOT)))
            if not check:
                page.write_text(new, encoding="utf-8")
    verb = "differs from the studies" if check else "written"
    for page in differing:
        print(f"{page}: {verb}")
    old = outdated_pictures(published)
    for name in old:
        print(f"docs/{name}: shows another study; python docs/results.py --pictures")
    return 1 if check and (differing or old) else 0


if __name__ == "__main__":
    sys.exit(main())
