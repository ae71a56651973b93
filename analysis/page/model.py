"""The best model: what it takes for what, and the images it is most wrong about."""

import base64
from collections.abc import Sequence
from pathlib import Path

from analysis import mirrored, weights
from analysis.figures.confusion import confusion
from analysis.misclassified import mistakes, png
from analysis.page.parts import Image, Part, Section
from analysis.progress import Best
from analysis.text import percent, printable
from analysis.trials import Study, Trial, finished
from analysis.wording import listed

MOST_CLASSES = 24  # in the confusion matrix, which is to be looked at


def best_model(
    study: Study, trials: Sequence[Trial], best: Best | None, folder: Path | None
) -> list[Section]:
    """Show the confusion matrix and the most confident mistakes of the best model."""
    if best is None or not study.plan:
        return []
    replicates = [trial for trial in finished(trials) if trial.label == best.variant]
    chosen = study.best_of(replicates)
    name = printable(best.variant)
    seed = "" if chosen.seed is None else f" on seed {chosen.seed}"
    test = (
        ""
        if chosen.test_accuracy is None or study.plan.get("imported")
        else f"; test accuracy {percent(chosen.test_accuracy)} %, looked at once, chose nothing"
    )
    end = "lowest" if study.minimizes else "highest"
    flip = f". Test and validation are {mirrored.WORDS}" if chosen.test_time_flip else ""
    intro = [
        f"{name}{seed}: of the trials of the best variant, the one with the {end} "
        f"{study.compared}, {study.quantity.amount(chosen.value)}{test}{flip}."
    ]
    classes, counts = _classes(study), _counts(chosen)
    parts = []
    if counts is None:
        intro.append("This study keeps no confusion matrix.")
    else:
        names = classes if len(classes) == len(counts) else list(map(str, range(len(counts))))
        shown, titles = most_mistaken(counts, names)
        words = _confusions(counts, names)
        if len(shown) < len(counts):
            words.append(f"Shown are the {MOST_CLASSES} of {len(counts)} classes most mistaken.")
        parts.append(Part(sentences=words, figures=[confusion(shown, titles, "test images")]))
    images = _images(chosen, folder, classes)
    if images:
        said = "The test images it was most sure about, and wrong."
        parts.append(Part("Most confident mistakes", [said], images=images))
    elif counts is not None:
        intro.append(_why_no_images(chosen, folder))
    return [Section("model", "The best model", intro, parts)]


def _classes(study: Study) -> list[str]:
    names = study.dataset.get("classes")
    return [printable(str(name)) for name in names] if isinstance(names, list) else []


def _counts(trial: Trial) -> list[list[int]] | None:
    """Return the confusion matrix of a trial; None if there is none, or no matrix of counts."""
    rows = trial.confusion.get("test")
    if not isinstance(rows, list) or not rows:
        return None
    square = all(isinstance(row, list) and len(row) == len(rows) for row in rows)
    if not square or not all(isinstance(n, int) and n >= 0 for row in rows for n in row):
        return None
    return rows


def most_mistaken(
    counts: Sequence[Sequence[int]], names: Sequence[str]
) -> tuple[Sequence[Sequence[int]], Sequence[str]]:
    """Return the confusion matrix of the classes with most mistakes, the others added up as one."""
    if len(counts) <= MOST_CLASSES:
        return counts, names
    of_class = [
        sum(row) + sum(other[place] for other in counts) - 2 * row[place]
        for place, row in enumerate(counts)
    ]
    order = sorted(range(len(counts)), key=lambda place: -of_class[place])
    groups = [[place] for place in sorted(order[:MOST_CLASSES])] + [order[MOST_CLASSES:]]
    added = [[sum(counts[i][j] for i in rows for j in cols) for cols in groups] for rows in groups]
    return added, [*(names[group[0]] for group in groups[:-1]), "all others"]


def _confusions(counts: Sequence[Sequence[int]], names: Sequence[str]) -> list[str]:
    """Name the largest entries off the diagonal."""
    wrong = sorted(
        (
            (number, row, column)
            for row, line in enumerate(counts)
            for column, number in enumerate(line)
            if row != column and number
        ),
        key=lambda entry: (-entry[0], *entry[1:]),
    )[:3]
    if not wrong:
        return ["It took no image for another class."]
    words = [f"{names[row]} for {names[column]} ({number})" for number, row, column in wrong]
    return [f"Most often mistaken: {listed(words)}."]


def _why_no_images(trial: Trial, folder: Path | None) -> str:
    path = None if folder is None else weights.path_of(trial, folder)
    if folder is not None and path is not None and path.is_file() and weights.fault(trial, folder):
        return (
            "What lies in the place of its weights is of another training, so its most confident "
            "mistakes are not shown."
        )
    return "Its most confident mistakes lie beside its weights, which are not here."


def _images(trial: Trial, folder: Path | None, classes: Sequence[str]) -> list[Image]:
    path = None if folder is None else weights.path_of(trial, folder)
    if folder is None or path is None or weights.fault(trial, folder):
        return []

    def name(index: int) -> str:
        return classes[index] if 0 <= index < len(classes) else str(index)

    images = []
    for mistake in mistakes(path):
        picture = base64.b64encode(png(mistake.pixels, mistake.side, mistake.channels)).decode()
        taken = f"{name(mistake.label)}, taken for {name(mistake.predicted)}"
        sure = f"{100 * mistake.probability:.0f} %"
        images.append(
            Image(
                f"data:image/png;base64,{picture}",
                f"Test image {mistake.index}: {taken}",
                f"{taken} ({sure})",
            )
        )
    return images
