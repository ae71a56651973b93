"""Whether this process gets on: a count of what it has done, for those who watch it.

A process whose GPU hangs is alive and says so; only its work stands still.
"""

import torch

STEPS_AHEAD = 50  # that the host may be ahead of a GPU, twice


class _Progress:
    """What this process has done: training steps and batches of evaluations."""

    done = 0


def advance() -> None:
    """Count a piece of work."""
    _Progress.done += 1


def done() -> int:
    """Return how many pieces of work this process has done."""
    return _Progress.done


class Pace:
    """Counts the steps of a bank when they are done, not when they are started.

    A GPU is given its work long before it does it. So a step is counted some steps later, when the
    device has come that far; meanwhile it has enough to do.

    Args:
        device: of the bank.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.started = device, 0
        self.mark: torch.cuda.Event | None = None

    def tick(self) -> None:
        """Take note that a step was started."""
        if self.device.type != "cuda":
            advance()
            return
        self.started += 1
        if self.started % STEPS_AHEAD == 0:
            if self.mark is not None:
                self.mark.synchronize()
                advance()
            self.mark = torch.cuda.Event()
            self.mark.record(torch.cuda.current_stream(self.device))
