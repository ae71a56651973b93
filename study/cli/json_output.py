"""Answers in JSON: alone on stdout, whatever the user's networks and their libraries print."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

import typer

_stdout: list[TextIO] = []  # the real one, while everything else goes to stderr


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """Print a value as JSON."""
    print_answer(json.dumps(value, indent=indent, allow_nan=False))


def print_answer(text: str) -> None:
    """Print what a command was asked for, in JSON or not."""
    print(text, file=_stdout[-1] if _stdout else sys.stdout, flush=True)


def keep_stdout(context: typer.Context, wanted: bool) -> bool:
    """Until the command ends, let nothing but answers go to stdout."""
    if wanted and sys.stdout is not None:  # None: it was closed from the start
        context.with_resource(_json_alone())
    return wanted


@contextlib.contextmanager
def _json_alone() -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        _stdout.append(stack.enter_context(_real_stdout()))
        stack.callback(_stdout.pop)
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield


@contextlib.contextmanager
def _real_stdout() -> Iterator[TextIO]:
    """Give stdout; its descriptor is stderr's meanwhile, which programs that are called inherit."""
    stdout = sys.stdout
    try:
        number, elsewhere = stdout.fileno(), sys.stderr.fileno()
    except (AttributeError, OSError):  # not a real file, or closed from the start
        yield stdout
        return
    stdout.flush()
    kept = os.dup(number)
    os.dup2(elsewhere, number)
    try:
        with open(kept, "w", encoding=stdout.encoding, errors=stdout.errors, closefd=False) as file:
            yield file
    finally:
        os.dup2(kept, number)
        os.close(kept)
