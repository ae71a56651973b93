"""`python -m study.cli`."""

import contextlib
import sys
from pathlib import Path

from study.cli import main

# Python puts the current folder first. Unless the package itself lies there (a checkout), nothing
# of it is meant to be imported; `python -P -m study.cli` spares even what was imported until here.
with contextlib.suppress(OSError):
    here = Path.cwd()
    if not Path(__file__).resolve().is_relative_to(here.resolve()):
        sys.path[:] = [entry for entry in sys.path if entry and Path(entry) != here]

if __name__ == "__main__":
    main()
