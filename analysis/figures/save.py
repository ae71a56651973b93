"""Figures as files: drawn by Kaleido in the Chrome or Chromium of this machine."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from analysis.figures.base import Figure, plain

FORMATS = ("png", "svg", "pdf")
WIDTH = 900  # pixels
TITLE = 44  # pixels of height
SCALE = 2  # pixels of a PNG for one of the layout: sharp in print


class CannotDraw(Exception):  # noqa: N818 # it is a state of the machine, not a mistake
    """There is nothing to draw with; the message says what to do."""


def save(figures: Iterable[Figure], folder: Path, format: str) -> list[Path]:
    """Write each figure with its title, on white, to `folder / NAME.FORMAT`; return the paths.

    Plotly is that of the page, and no other script is loaded: this works without a network.

    Args:
        figures: to be written.
        folder: where to; made if it is not there.
        format: one of FORMATS.

    Raises:
        CannotDraw: Kaleido is not installed, or it finds no browser.
        OSError: the folder cannot be written.
    """
    try:
        import kaleido
        from kaleido.errors import BrowserFailedError, ChromeNotFoundError
    except ImportError as error:
        raise CannotDraw("needs Kaleido: pip install 'fmnist-study[figures]'") from error
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [_job(figure, folder / f"{figure.name}.{format}", format) for figure in figures]
    try:
        # MathJax would come from a network, and no label is a formula.
        kaleido.write_fig_from_object_sync(jobs, kopts={"mathjax": False})
    except (ChromeNotFoundError, BrowserFailedError) as error:
        raise CannotDraw(f"needs Chrome or Chromium, which Kaleido draws with ({error})") from error
    return [job["path"] for job in jobs]


def _job(figure: Figure, path: Path, format: str) -> dict[str, Any]:
    margin = figure.layout["margin"]
    titled = figure.layout | {
        "title": {
            "text": plain(figure.title, 80),
            "font": {"size": 16},
            "x": 0.02,
            "y": 1,
            "yanchor": "top",
            "yref": "container",
            "pad": {"t": 14},
        },
        "margin": margin | {"t": margin["t"] + TITLE},
        # Above the axes, where the page has it, is the title.
        "legend": {"x": 1.02, "xanchor": "left", "y": 1, "yanchor": "top"},
    }
    width = figure.most or max(WIDTH, figure.least)
    size = {"width": width, "height": figure.height + TITLE, "scale": SCALE}
    return {
        "fig": {"data": figure.data, "layout": titled},
        "path": path,
        "opts": {"format": format, **size},
    }
