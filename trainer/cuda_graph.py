"""Work that is repeated unchanged: run as it is, or on a GPU captured once and replayed.

A small network's step is 60 to 120 kernels of a few microseconds each, and starting them one by one
from Python takes longer than computing them. A CUDA graph starts them all at once. What it replays
is fixed: the same kernels on the same memory. So a program takes no arguments, finds everything in
tensors that stay where they are (which step it is, too), and writes its results into such tensors.
"""

from collections.abc import Callable
from functools import cache

import torch

from fmnist_common.environment import variable
from trainer.errors import UserError, choose
from trainer.progress import advance

GRAPHS = "CUDA_GRAPHS"  # FMNIST_STUDY_...: 1 (default) or 0, to run every kernel by itself
STEPS_AHEAD = 50  # that the host may be ahead of a GPU, twice
WARM_UP = 3  # runs as they are, in which kernels are chosen and lasting memory is taken

CudaStream = torch.cuda.Stream | None
Capture = Callable[[Callable[[], None], CudaStream], Callable[[], None]]  # work -> its replay


class Program:
    """A piece of work, to be called as often as it is to be done.

    Each call does the work once, also the first ones, which prepare it, and the one that captures.
    It does not hold the work, so whoever owns both is freed, with its graph's memory, as soon as it
    is let go.

    Args:
        device: where its kernels run.
        capture: makes the replay of a work; by default a CUDA graph on GPUs, nothing elsewhere.

    Raises:
        UserError: the environment's choice is no valid one.
    """

    def __init__(self, device: torch.device, capture: Capture | None = None) -> None:
        self.capture = capture
        self.replay: Callable[[], None] | None = None
        self.runs = 0
        self.stream: CudaStream = None
        if device.type == "cuda" and graphs_wanted():
            self.capture = capture or _cuda_graph
            self.stream = _side_stream(device)

    def __call__(self, work: Callable[[], None]) -> None:
        """Do the work once: the same in every call; see the module."""
        if self.capture is None:
            work()
        elif self.replay is not None:
            self.replay()
        elif self.runs < WARM_UP:
            self.runs += 1
            self._run_beside(work)
        else:
            self.replay = self.capture(work, self.stream)
            self.replay()

    def _run_beside(self, work: Callable[[], None]) -> None:
        # On the stream that is going to be captured, as CUDA graphs ask for.
        if self.stream is None:
            work()
            return
        current = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            work()
        current.wait_stream(self.stream)


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


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the stream on which everything of a device is captured.

    One for all: cuBLAS keeps a workspace of 32 MiB for every stream that it has ever met.
    """
    return torch.cuda.Stream(device)


def graphs_wanted() -> bool:
    """Whether steps are captured on a GPU.

    Raises:
        UserError: the environment says neither yes nor no.
    """
    name, value = variable(GRAPHS)
    if value not in ("", "0", "1"):
        raise UserError(choose(name, value, ("0", "1")))
    return value != "0"


def _cuda_graph(work: Callable[[], None], stream: CudaStream) -> Callable[[], None]:
    """Record the kernels of a work, without running them; return their replay."""
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, stream=stream):
            work()
    except RuntimeError as error:
        # Ending a capture that has failed fails too, and would hide a full memory.
        if isinstance(error.__context__, torch.OutOfMemoryError):
            raise error.__context__ from None
        raise
    return graph.replay
