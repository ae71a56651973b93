"""Processes that import what their parent imports, and nothing that lies in the current folder.

Python puts the current folder first on the path of `python -c`, which is how multiprocessing starts
the server that workers are forked from: a `socket.py` or a `trainer/` there would run instead of
the modules of that name.
"""

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def path_for_children() -> Iterator[None]:
    """Let Python processes that are started meanwhile have the import path of this one."""
    wanted = {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
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
