"""Reported accuracies beside ours."""

from collections.abc import Sequence

from analysis.figures.base import (
    BLUE,
    LABEL,
    MOST_ROWS,
    VERMILION,
    Figure,
    axis,
    bars,
    layout,
    percents,
    plain,
    row_axis,
    scatter,
)
from analysis.mirrored import WORDS
from analysis.reported import Figures, ReportedRow


def beside_ours(rows: Sequence[ReportedRow]) -> Figure | None:
    """Draw reported and our test accuracies with their intervals; None without any pair."""
    shown = [row for row in rows if row.n and (_middle(row) is not None)][:MOST_ROWS]
    if not shown:
        return None
    sides = [
        ("reported", VERMILION, "square-open", -0.14, [_reported(row) for row in shown]),
        ("ours", BLUE, "circle", 0.14, [_bounds(row.ours) for row in shown]),
    ]
    data = []
    for name, shade, symbol, shift, bounds in sides:
        ranges = [name == "reported" and row.test_accuracy_range is not None for row in shown]
        data.append(
            scatter(
                percents(middle for _, middle, _ in bounds),
                [index + shift for index in range(len(shown))],
                [
                    f"<b>{plain(row.variant, 2 * LABEL)}</b><br>{name}: "
                    + (
                        f"{100 * low:.2f} to {100 * high:.2f} %"
                        if is_range
                        else f"{100 * middle:.2f} % [{100 * low:.2f}, {100 * high:.2f}]"
                    )
                    for row, (low, middle, high), is_range in zip(
                        shown, bounds, ranges, strict=True
                    )
                ],
                mode="markers",
                name=name,
                marker={
                    "color": shade,
                    # A range has no middle, as nobody reported one: a dash on its line.
                    "symbol": ["line-ew" if is_range else symbol for is_range in ranges],
                    "size": 9,
                    "line": {"width": 2, "color": shade},
                },
                error_x=bars(
                    (high - middle for _, middle, high in bounds),
                    (middle - low for low, middle, _ in bounds),
                    color=shade,
                    thickness=2,
                    width=0,
                ),
            )
        )
    return Figure(
        "reported",
        "Reported and our test accuracy",
        f"Reported and our test accuracies of {len(shown)} variants with their intervals.",
        data,
        layout(
            xaxis=axis("test accuracy, %"),
            yaxis=row_axis([row.variant for row in shown]),
            showlegend=True,
        ),
        height=110 + 32 * len(shown),
        note="Lines: 95 % intervals. Of what is reported, for one test of its images, or the "
        "reported range; of ours, for the mean over seeds."
        + (f" Ours: {WORDS}." if any(row.test_time_flip for row in shown) else ""),
    )


def _middle(row: ReportedRow) -> float | None:
    if row.test_accuracy_range is not None:
        return sum(row.test_accuracy_range) / 2
    return row.reported.test_accuracy


def _reported(row: ReportedRow) -> tuple[float, float, float]:
    if row.test_accuracy_range is not None:
        low, high = row.test_accuracy_range
        return low, (low + high) / 2, high
    return _bounds(row.reported)


def _bounds(figures: Figures) -> tuple[float, float, float]:
    middle = figures.test_accuracy or 0.0
    return (
        middle if figures.low is None else figures.low,
        middle,
        middle if figures.high is None else figures.high,
    )
