"""The command line: thin commands that open, call and print; errors become exit codes in `main`."""

import contextlib
import io
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import typer

from study.cli.common import app
from study.store import signals
from trainer.errors import UserError

# isort: off
# Each registers its commands, which `--help` lists in this order.
from study.cli import planning, running, watching, reporting, verifying, exporting, imports  # noqa: F401
from study.cli import copying, models, machine, dashboard  # noqa: F401
# isort: on


def _fail(message: str) -> NoReturn:
    from analysis.text import printable

    with contextlib.suppress(OSError):  # stderr may be full, or closed
        print(f"fmnist-study: error: {printable(' '.join(message.split()))}", file=sys.stderr)
    raise SystemExit(2)


def main(argv: Iterable[str] | None = None) -> None:
    """Run the command line; exit with 0, 1, 2 (bad input, one line), 130 or 143."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # ASCII has no ±: \xb1
            stream.reconfigure(errors="backslashreplace")
    try:
        _check_current_folder()
        args = sys.argv[1:] if argv is None else list(argv)
        with signals.handled():
            code = app(args=args or ["--help"], standalone_mode=False)
        if sys.stdout is not None:  # else it was closed from the start
            sys.stdout.flush()
    except UserError as error:
        _fail(str(error))
    except typer.TyperException as error:
        _fail(error.format_message() if hasattr(error, "format_message") else str(error))
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:  # `fmnist-study report | head`
        _abandon_stdout()
        raise SystemExit(1) from None
    except OSError as error:
        _fail(_refusal(error))
    raise SystemExit(code if isinstance(code, int) else 0)


def _abandon_stdout() -> None:
    """Let what cannot be written go nowhere: Python writes it once more when it ends."""
    with contextlib.suppress(OSError, ValueError):  # it is no real file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _refusal(error: OSError) -> str:
    """Say what the system refused: a file that is named, or standard output."""
    words = error.strerror or str(error)
    if error.filename is not None:
        return f"{error.filename}: {words}"
    try:
        print(flush=True)
    except OSError:
        _abandon_stdout()
        return f"standard output cannot be written: {words}"
    return words


def _check_current_folder() -> None:
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise UserError(
            "the current folder does not exist any more: change into another one"
        ) from error
