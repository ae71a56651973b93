"""The confusion matrix: which classes are taken for which."""

from collections.abc import Sequence

import numpy as np

from analysis.figures.base import INK, Figure, axis, layout, percents, plain, ticks


def confusion(counts: Sequence[Sequence[int]], classes: Sequence[str], images: str) -> Figure:
    """Draw which classes are taken for which; only mistakes are coloured.

    Args:
        counts: shape (C, C), a row per true class and a column per predicted one.
        classes: C names.
        images: what was counted, such as "test images".
    """
    matrix = np.array(counts, float)
    totals = np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    shares = matrix / totals
    wrong = shares.copy()
    np.fill_diagonal(wrong, np.nan)
    names = [plain(name, 16) for name in classes]
    text = [
        [
            f"<b>{true}</b> taken for {'itself' if row == column else predicted}: "
            f"{int(matrix[row, column])} of {int(totals[row, 0])} "
            f"({100 * shares[row, column]:.1f} %)"
            for column, predicted in enumerate(names)
        ]
        for row, true in enumerate(names)
    ]
    return Figure(
        "confusion",
        "Confusion matrix",
        f"Confusion matrix of {len(classes)} classes over {int(matrix.sum()):,} {images}.",
        [
            {
                "type": "heatmap",
                "z": [percents(row) for row in wrong.tolist()],
                "text": [
                    [_number(value, bold=row == column) for column, value in enumerate(line)]
                    for row, line in enumerate(counts)
                ],
                "textfont": {"color": INK, "size": 12},
                "customdata": text,
                "texttemplate": "%{text}",
                "hovertemplate": "%{customdata}<extra></extra>",
                "hoverongaps": False,
                "colorscale": [[0, "rgba(213,94,0,0)"], [1, "rgba(213,94,0,0.9)"]],
                "showscale": False,
                "zmin": 0,
                # A few per cent are pale: one image of a small test set is no pattern.
                "zmax": max(10.0, 100 * float(np.nanmax(wrong, initial=0))),
                "xgap": 1,
                "ygap": 1,
            },
        ],
        layout(
            xaxis=axis("taken for", **ticks(names), tickangle=-45, showgrid=False),
            yaxis=axis(
                "true class", **ticks(names), autorange="reversed", showgrid=False,
            ),
        ),
        height=max(360, 42 * len(names) + 120),
        note=f"Numbers: {images}. Colour: share of a true class that was mistaken for another.",
        least=56 * len(names) + 120,
        most=56 * len(names) + 120,
    )  # fmt: skip


def _number(value: int, *, bold: bool) -> str:
    if bold:
        return f"<b>{value:,}</b>"
    return f"{value:,}" if value else ""
