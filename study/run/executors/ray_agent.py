"""A node's side of `--executor ray`: an actor that drives worker processes of its node.

The owner calls `exchange` again and again: orders in, what has happened since out. Everything
happens in these calls, one at a time, so nothing here is concurrent. A worker that dies is replaced
here; what becomes of its job is the owner's to decide.
"""

import os
import platform
import sys
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from study.run.executors import Job, Request, WorkerSpec, lifeline
from study.run.executors.local import LocalExecutor
from study.run.executors.transfer import Content, RemoteJob, Scratch
from trainer import files
from trainer.config import TrainConfig
from trainer.datasets import DATASETS
from trainer.errors import UserError
from trainer.results import Cost

BUSY_SECONDS = 0.5  # that a call waits at most for something to happen
IDLE_SECONDS = 0.05  # where a worker is idle: for its next job it waits as long
# A job's number: a job, which members stop (None: all goes on), or that its files are not needed.
Orders = Sequence[tuple[int, RemoteJob | Collection[int] | None]]
Report = tuple[int, str, Any]  # a job's number, an event's kind or "resume", its payload


@dataclass(frozen=True)
class Place:
    """Where an agent works, and how its owner is reached."""

    name: str
    slots: int
    threads: int  # of each worker
    device: str  # cpu, or cuda: the one that Ray gives it
    owner: tuple[str, int]
    token: str


class NoData(Exception):  # noqa: N818 # the owner sends it
    """The data set's files are not on this node."""


class Agent:
    """The workers of a node, or of one of its GPUs.

    Args:
        request: what the run asks for.
        place: where this is.
    """

    def __init__(self, request: Request, place: Place) -> None:
        self.scratch = Scratch()
        lifeline.hold(place.owner, place.token, self.scratch.remove)
        self.place, self.request = place, request
        os.environ["OMP_NUM_THREADS"] = str(place.threads)  # Ray says 1
        if place.device == "cpu":
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # without a GPU of its own Ray hides none
        # Workers are forked as of this program, and would run Ray's own main file first.
        vars(sys.modules["__main__"]).pop("__file__", None)
        self.jobs: dict[int, Job] = {}
        self.waiting: deque[Job] = deque()  # for a worker that starts again

    def start(self, names: Sequence[str] = (), *contents: Content) -> dict[str, Any]:
        """Start the workers; return what they found.

        Args:
            names: of the data set's files, if this node has none.
            contents: of each of them.

        Raises:
            NoData: it has none.
            UserError: a worker cannot work here.
        """
        for name, content in zip(names, contents, strict=True):
            content.write(self.scratch.folder / "data" / name)
        folder = self.scratch.folder / "data" if names else self.request.data_dir
        self._check_files(folder)
        device = "cuda:0" if self.place.device == "cuda" else "cpu"
        spec = WorkerSpec(
            device,
            self.place.threads,
            self.request.dataset,
            folder,
            convolutions=self.request.convolutions,
            code=self.request.code,
        )
        self.crew = self.workers([spec] * self.place.slots)
        described = self.crew.start()
        described["versions"]["fmnist-study"] = version("fmnist-study")
        return {**described, "host": platform.node()}

    def workers(self, specs: Sequence[WorkerSpec]) -> LocalExecutor:
        """Return the workers, not started."""
        return LocalExecutor(specs)

    def _check_files(self, folder: Path | None) -> None:
        if self.request.dataset in DATASETS:
            try:
                files.ready(self.request.dataset, folder, download=False)
            except UserError as error:
                raise NoData(str(error)) from error

    def measure(self, configs: Sequence[TrainConfig]) -> list[Cost]:
        """Return what each config will cost.

        Raises:
            UserError: a config cannot be trained here.
        """
        return self.crew.measure(configs)

    def exchange(self, orders: Orders) -> list[Report]:
        """Do what is ordered, wait a little for something to happen, and tell it."""
        for number, order in orders:
            self._obey(number, order)
        while self.waiting and self.crew.idle:
            self.crew.give(self.waiting.popleft())
        seconds = IDLE_SECONDS if self.crew.idle else BUSY_SECONDS
        numbers = {id(job): number for number, job in self.jobs.items()}
        reports = [self._report(numbers[id(job)], job, kind, payload)
                   for job, kind, payload in self.crew.events(seconds)]  # fmt: skip
        for number, job in self.jobs.items():
            contents = self.scratch.resume_points(number, job)
            if contents is not None:
                reports.append((number, "resume", contents))
        return reports

    def _obey(self, number: int, order: RemoteJob | Collection[int] | None) -> None:
        if isinstance(order, RemoteJob):
            self.jobs[number] = self.scratch.unpacked(order)
            self.waiting.append(self.jobs[number])
        elif order is None:
            self.scratch.forget(number)
        elif number in self.jobs:  # else its worker has died meanwhile
            self.crew.answer(self.jobs[number], order)

    def _report(self, number: int, job: Job, kind: str, payload: Any) -> Report:
        if kind == "epoch":
            return number, kind, payload
        del self.jobs[number]
        if kind == "results":
            return number, kind, (payload, self.scratch.weights(job))
        return number, kind, payload

    def read(self, name: str) -> Content:
        """Return a file of this node's own folder."""
        return self.scratch.read(name)


def without_callbacks(request: Request) -> Request:
    """Return a request that can be sent to another machine."""
    return replace(request, tell=_keep_quiet)


def _keep_quiet(_line: str) -> None:
    """Nobody listens on a node."""
