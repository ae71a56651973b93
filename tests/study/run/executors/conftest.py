"""Executors of every kind, to be treated alike."""

from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from study.run.executors import Executor, Request, WorkerSpec, local
from study.run.executors.inline import InlineExecutor
from study.run.executors.local import LocalExecutor
from tests.faults.machine import until
from tests.support import workers
from tests.support.cluster import TestCluster, agents, cluster, workers_of  # noqa: F401

SPEC = WorkerSpec("cpu", 1, "digits", None)
FAULTS = {
    "hang": ("HangingAgent", workers.serve_with_a_hanging_device),
    "memory": ("FullAgent", workers.serve_without_memory),
}


class Kind:
    """A kind of executor, and how to get at its workers."""

    def __init__(self, name: str, request: pytest.FixtureRequest, folder: Path) -> None:
        self.name = name
        self.cluster: TestCluster | None = None
        if name == "ray":
            self.cluster = request.getfixturevalue("cluster")
            self.cluster.restore()
            folder = self.cluster.folder
        self.folder = folder

    @contextmanager
    def started(self, fault: str | None = None, agent: str = "Agent") -> Iterator[Executor]:
        """Yield a started executor with two workers, the first of which has a fault."""
        with pytest.MonkeyPatch.context() as context:
            context.setenv(workers.FOLDER, str(self.folder))
            for name in FAULTS:
                (self.folder / name).unlink(missing_ok=True)
            threads = torch.get_num_threads()
            self._forget_environment()
            executor = self._made(context, fault, agent)
            try:
                executor.start()
                if self.cluster is not None:
                    self._wait_for_nodes(executor)
                yield executor
            finally:
                executor.close()
                self._forget_environment()
                torch.set_num_threads(threads)

    def _wait_for_nodes(self, executor: Any) -> None:
        """Wait for every node: on a busy machine they do not answer at the same time."""
        assert self.cluster is not None
        nodes = 1 + len(self.cluster.others)
        until(lambda: not [*executor.events(0.1)] and executor.slots == nodes, "every node")

    def _forget_environment(self) -> None:
        """Have the next workers forked from a server that starts with the environment of then."""
        if self.name == "local":
            forkserver._forkserver._stop()  # type: ignore[attr-defined] # nothing public does it

    def _made(self, context: pytest.MonkeyPatch, fault: str | None, agent: str) -> Executor:
        if self.name == "ray":
            assert self.cluster is not None
            return self._on_cluster(FAULTS[fault][0] if fault else agent)
        if fault:
            context.setattr(local, "_serve", FAULTS[fault][1])
        if self.name == "inline":
            return InlineExecutor([SPEC])
        spec = workers.saving(SPEC) if agent == "SavingAgent" else SPEC
        if fault == "hang":
            return workers.ImpatientExecutor([spec] * 2, stall=6.0)
        return LocalExecutor([spec] * 2)

    def _on_cluster(self, agent: str) -> Executor:
        from study.run.executors.ray import RayExecutor
        from tests.support import cluster as support

        assert self.cluster is not None
        request = Request(
            "digits", device="cpu", threads=1, trials=99, address=self.cluster.address
        )
        made: type[Any] = getattr(support, agent)
        return RayExecutor(request, agent=made)

    def workers(self, executor: Any) -> list[psutil.Process]:
        """Return the processes that train."""
        if self.name == "ray":
            return workers_of(agents())
        return [psutil.Process(process.process.pid) for process in executor.processes]


RAY = pytest.param("ray", marks=pytest.mark.slow)


@pytest.fixture(params=["inline", "local", RAY])
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Kind:
    return Kind(request.param, request, tmp_path)


@pytest.fixture(params=["local", RAY])
def parallel(request: pytest.FixtureRequest, tmp_path: Path) -> Kind:
    """Kinds whose workers are processes of their own."""
    return Kind(request.param, request, tmp_path)


@pytest.fixture
def elastic(request: pytest.FixtureRequest, tmp_path: Path) -> Kind:
    """The kind whose workers are on several nodes."""
    return Kind("ray", request, tmp_path)
