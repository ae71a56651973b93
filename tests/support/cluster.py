"""A Ray cluster of two nodes on this machine, started once for all tests that need one."""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from study.run.executors import local
from study.run.executors.ray_agent import Agent
from tests.support import workers
from tests.support.house import ROOT

STORE_BYTES = 80 << 20
# A killed node refuses three checks within two seconds; by default it takes Ray 14 to notice. One
# that is only slow, as on a busy machine, may take its time to answer.
HEALTH = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 20_000,
    "health_check_failure_threshold": 3,
}


class TestCluster:
    """Nodes of one CPU each; the tests' own processes are on the first."""

    __test__ = False

    def __init__(self, folder: Path) -> None:
        from ray.cluster_utils import Cluster

        self.folder = folder  # named to workers in which something goes wrong
        head = {"num_cpus": 1, "object_store_memory": STORE_BYTES, "include_dashboard": False,
                "_system_config": HEALTH}  # fmt: skip
        with self._environment():
            self.cluster: Any = Cluster(initialize_head=True, head_node_args=head)
        self.others: list[Any] = []
        self.grow()

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def grow(self) -> None:
        """Have another node join."""
        with self._environment():
            node = self.cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
        self.others.append(node)

    @contextmanager
    def _environment(self) -> Iterator[None]:
        """What every node and its processes start with, whenever it joins."""
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        with pytest.MonkeyPatch.context() as context:
            context.setenv("PYTHONPATH", os.pathsep.join(paths))
            context.setenv(workers.FOLDER, str(self.folder))
            context.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
            context.setenv("RAY_USAGE_STATS_ENABLED", "0")
            yield

    def kill_node(self) -> None:
        """Kill a node, all of its processes, as a power cut does."""
        node = self.others.pop()
        (raylet,) = (info.process.pid for info in node.all_processes["raylet"])
        family = [psutil.Process(raylet), *psutil.Process(raylet).children(recursive=True)]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.cluster.remove_node(node, allow_graceful=False)

    def restore(self) -> None:
        """Have two nodes again."""
        while not self.others:
            self.grow()

    def shutdown(self) -> None:
        self.cluster.shutdown()


def agents() -> list[psutil.Process]:
    """Return the processes of agents on this machine's nodes."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        title = "".join(process.info["cmdline"] or [])
        if title.startswith("ray::") and "Agent" in title:
            found.append(process)
    return found


def workers_of(parents: list[psutil.Process]) -> list[psutil.Process]:
    """Return what is forked from the servers that these processes have started."""
    found = []
    for parent in parents:
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in parent.children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    found += child.children()
    return found


class HangingAgent(Agent):
    """An agent whose first training hangs, and who is not patient."""

    def workers(self, specs: Any) -> local.LocalExecutor:
        vars(local)["_serve"] = workers.serve_with_a_hanging_device
        return workers.ImpatientExecutor(specs, stall=6.0)


class FullAgent(Agent):
    """An agent whose first training finds no memory."""

    def workers(self, specs: Any) -> local.LocalExecutor:
        vars(local)["_serve"] = workers.serve_without_memory
        return local.LocalExecutor(specs)


class SavingAgent(Agent):
    """An agent whose trainings save after every epoch."""

    def workers(self, specs: Any) -> local.LocalExecutor:
        return local.LocalExecutor([workers.saving(spec) for spec in specs])


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestCluster]:
    ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")
    folder = tmp_path_factory.mktemp("cluster")
    made = TestCluster(folder)
    try:
        ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
        yield made
    finally:
        ray.shutdown()
        made.shutdown()
