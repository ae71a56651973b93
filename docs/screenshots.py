"""Make the pictures of README and docs/: python docs/screenshots.py [NAME ...]

Each is what the program shows today: terminal, HiPlot, report, dashboard, and one of each published
study (results), in headless Chromium. docs/pictures.json keeps which state of a study they show,
so that results.py can tell when one is outdated. Needs Chromium, and what `pip install -e
'.[test]'` installs. A minute, on two cores.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from published import PREFIX, Published, states
from results import PICTURES as SHOWN_STATES
from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

from tests.support.browser import open_page

DOCS = Path(__file__).parent
STUDY = "reference/ablation"
HERE = os.environ | {"PYTHONPATH": str(DOCS.parent)}  # this tree's program and studies
PROGRAM = [sys.executable, "-m", "study.cli"]
DRAWN = "document.querySelectorAll('.main-svg').length > 1"
SHOWN = "document.readyState == 'complete' && later(2000)"
COLUMNS = 80
BODY = "body {{ margin: 0; padding: 16px 20px; background: {background}; color: {foreground}; }}"
TERMINAL = (
    "<!DOCTYPE html><meta charset=utf-8><style>{stylesheet}" + BODY + "pre {{ margin: 0; font: "
    "15px/1.25 'DejaVu Sans Mono', monospace; }}</style><pre>{code}</pre>"
)


def call(*words: str, folder: Path) -> str:
    """Run a command as in a terminal with colours; return what it prints."""
    env = HERE | {"FORCE_COLOR": "1", "COLUMNS": str(COLUMNS)}
    done = subprocess.run(
        [*PROGRAM, *words], cwd=folder, env=env, capture_output=True, text=True, check=True
    )
    return done.stdout


def terminal(folder: Path) -> None:
    """The first screen of a study."""
    out = call("report", STUDY, folder=folder)
    shown = f"$ fmnist-study report {STUDY}\n{out}".rstrip()
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True)
        console.print(Text.from_ansi(shown))
    page = folder / "terminal.html"
    html = console.export_html(theme=DIMMED_MONOKAI, code_format=TERMINAL)
    page.write_text(html, encoding="utf-8")
    lines = len(shown.splitlines())
    open_page(page, DOCS / "terminal.webp", width=800, height=32 + 19 * lines)


def hiplot(folder: Path) -> None:
    """Every trial a line."""
    call("report", STUDY, "--hiplot", folder=folder)
    page = folder / "reports" / STUDY / "hiplot.html"
    ready = "document.querySelectorAll('canvas').length > 0 && later(2500)"
    open_page(page, DOCS / "hiplot.webp", ready=delayed(ready), width=1400, height=700)


def report(folder: Path) -> None:
    """The summary, a factor, and the same page on a phone, in the dark."""
    call("report", STUDY, "--html", folder=folder)
    page = folder / "reports" / STUDY / "report.html"
    open_page(page, DOCS / "report.webp", ready=DRAWN, width=1280, height=1180)
    at_factors = (
        "(document.getElementById('factors')?.scrollIntoView(), true) && "
        "document.querySelectorAll('#factors .main-svg').length > 3 && later(1000)"
    )
    open_page(page, DOCS / "report-factors.webp", ready=delayed(at_factors), width=1280, height=840)
    open_page(
        page, DOCS / "report-phone.webp", ready=delayed(SHOWN), width=390, height=1100, dark=True
    )


def results(folder: Path) -> None:
    """What each published study found: reported figures and ours, or else its effects."""
    for name, found in Published():
        section = "reported" if getattr(found.table, "reported", ()) else "effects"
        if not getattr(found.table, section, ()):
            continue  # a search, or one network: nothing is compared
        call("report", name, "--html", folder=folder)
        ready = (
            f"(document.querySelector('#{section} figure.plot')?.scrollIntoView(), true) && "
            f"document.querySelectorAll('#{section} .main-svg').length > 0 && later(1500)"
        )
        page = folder / "reports" / name / "report.html"
        file = DOCS / f"results-{name.removeprefix(PREFIX)}.webp"
        open_page(page, file, ready=delayed(ready), width=1280, height=900)


def dashboard(folder: Path) -> None:
    """The study's note while it runs."""
    run = [*PROGRAM, "run", "ablation", "--dataset", "digits", "--epochs", "3", "--quiet"]
    with started(run, folder):
        wait_for(70, folder)
        serve = [*PROGRAM, "dashboard", "--host", "127.0.0.1", "--port", "0"]
        with started(serve, folder) as server:
            assert server.stdout is not None
            address = server.stdout.readline().split()[0]
            ready = delayed("document.body?.innerText.includes('What matters most') && later(1500)")
            open_page(
                f"{address}/note", DOCS / "dashboard.webp", ready=ready, width=1280, height=900
            )


def wait_for(trials: int, folder: Path) -> None:
    """Wait until so many trials are done.

    Raises:
        TimeoutError: they are not within ten minutes.
    """
    end = time.monotonic() + 600
    while time.monotonic() < end:
        time.sleep(3)
        with contextlib.suppress(subprocess.CalledProcessError):  # nothing is there yet
            if json.loads(call("status", "--json", folder=folder))["done"] >= trials:
                return
    raise TimeoutError(f"not {trials} trials within ten minutes")


@contextmanager
def started(words: list[str], folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """Start a program in a folder; end it as Ctrl-C does."""
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(
        words, cwd=folder, env=HERE, stdout=pipe, stderr=nowhere, text=True
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def delayed(ready: str) -> str:
    """Let `later(ms)` become true so many milliseconds after it was first asked."""
    return f"(window.later ??= ms => Date.now() - (window.since ??= Date.now()) > ms, {ready})"


def remember(names: Sequence[str]) -> None:
    """Keep which state of which study the pictures show that were made."""
    now = states(Published())
    of: dict[str, dict[str, str]] = json.loads(SHOWN_STATES.read_text(encoding="utf-8"))
    for file in sorted(DOCS.glob("*.webp")):
        kind = file.stem.partition("-")[0]
        if kind in names and kind != "dashboard":
            study = PREFIX + file.stem.removeprefix("results-") if kind == "results" else STUDY
            of[file.name] = {study: now.get(study, "never")}
    of = {name: of[name] for name in sorted(of) if (DOCS / name).is_file()}
    SHOWN_STATES.write_text(json.dumps(of, indent=1) + "\n", encoding="utf-8")


PICTURES = {
    "terminal": terminal,
    "hiplot": hiplot,
    "report": report,
    "results": results,
    "dashboard": dashboard,
}


def main() -> None:
    """Make the pictures that are named, or all."""
    names = sys.argv[1:] or list(PICTURES)
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            PICTURES[name](Path(folder))
    remember(names)
    for file in sorted(DOCS.glob("*.webp")):
        print(f"{file.name}: {file.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
