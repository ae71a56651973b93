"""Processes that import what their parent imports, and nothing that lies in the current folder.

Python puts the current folder first on the path of `python -c`, which is how multiprocessing starts
the server that workers are forked from: a `socket.py` or a `trainer/` there would run instead of
the modules of that name.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from types import ModuleType

CALLER = "FMNIST_CALLERS_PYTHONPATH"  # environment: what PYTHONPATH was before


def environment_of_the_caller() -> dict[str, str]:
    """Return the environment for programs that are not ours: without the path of this process."""
    environment = dict(os.environ)
    if CALLER in environment:
        environment.pop("PYTHONSAFEPATH", None)
        environment["PYTHONPATH"] = environment.pop(CALLER)
    return environment


@contextlib.contextmanager
def without_main() -> Iterator[None]:
    """Let processes that are started meanwhile run nothing of the caller's script.

    multiprocessing would import it again in each of them, and with it what calls us.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextlib.contextmanager
def path_for_children() -> Iterator[None]:
    """Let Python processes that are started meanwhile have the import path of this one."""
    wanted = {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    wanted[CALLER] = os.environ.get(CALLER, os.environ.get("PYTHONPATH", ""))
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
