"""Which commit of this package results come from."""

import os
import subprocess
from pathlib import Path

SECONDS = 10  # that Git may take


def git_commit() -> str | None:
    """Return the commit of this package's files, `-dirty` where some have changed.

    None where they belong to no repository: installed into a virtual environment within the
    repository of somebody's project, say, they are not tracked there.
    """
    file = Path(__file__).resolve()
    if _git(file.parent, "ls-files", "--error-unmatch", "--", file.name) is None:
        return None
    return _git(file.parent, "describe", "--always", "--dirty", "--abbrev=40")


def _git(folder: Path, *words: str) -> str | None:
    # A hook of another repository may have told Git where to look.
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            env=env,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
