"""Ctrl-C, SIGTERM and SIGUSR1: at once where that is safe, else right after.

Between starting a trial and knowing that it runs, or between a result and its commit, an exception
out of nowhere would lose one of them. Those places are shielded.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_depth = 0  # of shields around the code that runs now
_waiting: int | None = None  # the signal that came meanwhile
_seen: int | None = None  # the signal that has come


@contextmanager
def handled() -> Iterator[None]:
    """Turn SIGINT into KeyboardInterrupt, the others into SystemExit(143); a second one kills.

    SIGUSR1 is how batch systems say that the time is almost up.
    """
    global _seen, _waiting  # noqa: PLW0603 # signals are the process's
    if threading.current_thread() is not threading.main_thread():
        yield  # signals come to the main thread, which may have its own use for them
        return
    _seen, _waiting = None, None
    names = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGUSR1"):  # not on Windows
        names.append(signal.SIGUSR1)
    before = {name: signal.signal(name, _on_signal) for name in names}
    hook = sys.unraisablehook

    def on_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
        """Say nothing of a signal's exception that went nowhere: `check` raises it again."""
        if _seen is None or not issubclass(unraisable.exc_type, (KeyboardInterrupt, SystemExit)):
            hook(unraisable)

    sys.unraisablehook = on_unraisable
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for name, handler in before.items():
            signal.signal(name, handler)
        _seen = None
        # Where an interrupt has left a text that was given to `exec` (as in making a dataclass),
        # `python -m` ends by SIGINT in the end, handled or not; the next `exec` lets it forget.
        exec("")


@contextmanager
def shielded() -> Iterator[None]:
    """Hold signals back until the end of this block."""
    global _depth, _waiting  # noqa: PLW0603 # as above
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        if _depth == 0 and _waiting is not None:
            number, _waiting = _waiting, None
            _interrupt(number)  # also where the block itself has failed


def has_come() -> bool:
    """Whether a signal has come: who waits for something should not wait any longer."""
    return _seen is not None


def check() -> None:
    """Raise once more for a signal that has come.

    Where it found Python in the callback of a dying object, what it raised went nowhere.
    """
    if _seen is not None and not _depth:
        _interrupt(_seen)


def _on_signal(number: int, _frame: FrameType | None) -> None:
    global _seen, _waiting  # noqa: PLW0603 # as above
    if _seen is not None:
        os._exit(_exit_code(number))
    _seen = number
    if _depth:
        _waiting = number
    else:
        _interrupt(number)


def _interrupt(number: int) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(_exit_code(number))


def _exit_code(number: int) -> int:
    return 128 + (signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)
