"""Which commit of this package results come from, and what had been changed since."""

import os
import subprocess
from pathlib import Path

SECONDS = 10  # that Git may take
MOST = 100_000  # characters of changes that are kept
CODE = ("*.py", "*.c", "*.h", "*.toml")


def git_commit() -> str | None:
    """Return the commit of this package's files, `-dirty` where some have changed.

    None where they belong to no repository: installed into a virtual environment within the
    repository of somebody's project, say, they are not tracked there.
    """
    folder = _tracked()
    return folder and _git(folder, "describe", "--always", "--dirty", "--abbrev=40")


def git_diff() -> str | None:
    """Return what has changed of the code since that commit, as `git diff` writes it.

    Of a long one the first `MOST` characters, and how many follow; None where nothing has changed.
    """
    folder = _tracked()
    if folder is None:
        return None
    patterns = [f":(top,glob)**/{pattern}" for pattern in CODE]
    words = ("diff", "HEAD", "--no-color", "--no-ext-diff", "--no-textconv", "--", *patterns)
    text = _git(folder, *words) or None
    if text is None or len(text) <= MOST:
        return text
    return f"{text[:MOST]}\n... and {len(text) - MOST:,} more characters"


def _tracked() -> str | None:
    """Return the folder of this file, where Git tracks it."""
    file = Path(__file__).resolve()
    listed = _git(str(file.parent), "ls-files", "--error-unmatch", "--", file.name)
    return None if listed is None else str(file.parent)


def _git(folder: str, *words: str) -> str | None:
    # A hook of another repository may have told Git where to look.
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", folder, *words],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
            env=env,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
