"""The command line: thin commands that open, call and print; errors become exit codes in `main`."""

import os
import sys
from collections.abc import Iterable
from typing import NoReturn

import typer

from study.cli.common import app
from study.store import signals
from trainer.errors import UserError

# isort: off
# Each registers its commands, which `--help` lists in this order.
from study.cli import running, reporting, models, machine  # noqa: F401
# isort: on


def _fail(message: str) -> NoReturn:
    from analysis.text import printable

    print(f"fmnist-study: error: {printable(' '.join(message.split()))}", file=sys.stderr)
    raise SystemExit(2)


def main(argv: Iterable[str] | None = None) -> None:
    """Run the command line; exit with 0, 1, 2 (bad input, one line), 130 or 143."""
    try:
        args = sys.argv[1:] if argv is None else list(argv)
        with signals.handled():
            code = app(args=args or ["--help"], standalone_mode=False)
    except UserError as error:
        _fail(str(error))
    except typer.TyperException as error:
        _fail(error.format_message() if hasattr(error, "format_message") else str(error))
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:  # `fmnist-study report | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    raise SystemExit(code if isinstance(code, int) else 0)
