"""The figure of an ablation path: the accuracy after each change on the way to the best."""

from analysis.figures.base import (
    BLUE,
    LABEL,
    Figure,
    axis,
    bars,
    layout,
    percents,
    plain,
    scatter,
    ticks,
)
from analysis.path import AblationPath
from analysis.text import percent
from fmnist_common.text import level_text


def ablation_path(path: AblationPath) -> Figure:
    """Draw the mean accuracy after each step, with its standard deviation over seeds."""
    steps = path.steps
    labels = ["baseline"] + [f"+ {step.factor}={level_text(step.level)}" for step in steps[1:]]
    means = [step.val_accuracy_mean for step in steps]
    spreads = [step.val_accuracy_std for step in steps]
    return Figure(
        "path",
        "Path to the best combination",
        f"Mean validation accuracy after each of {len(steps) - 1} changes to the baseline.",
        [
            scatter(
                list(range(len(steps))),
                percents(means),
                [f"<b>{plain(label)}</b><br>{percent(mean)} %"
                 for label, mean in zip(labels, means, strict=True)],
                mode="lines+markers",
                line={"color": BLUE, "width": 2},
                marker={"color": BLUE, "size": 9},
                error_y=bars(spreads, spreads, color=BLUE, thickness=2, width=0),
            )
        ],
        layout(
            xaxis=axis(**ticks([plain(label, LABEL) for label in labels])),
            yaxis=axis("validation accuracy, %"),
        ),
        note="Line: standard deviation over seeds. Each step is the best of those tried on top of "
        "the steps before, so gains are optimistic.",
    )  # fmt: skip
