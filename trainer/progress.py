"""Whether this process gets on: a count of what it has done, for those who watch it.

A process whose GPU hangs is alive and says so; only its work stands still. No torch here.
"""


class _Progress:
    """What this process has done: training steps and batches of evaluations."""

    done = 0


def advance() -> None:
    """Count a piece of work."""
    _Progress.done += 1


def done() -> int:
    """Return how many pieces of work this process has done."""
    return _Progress.done
