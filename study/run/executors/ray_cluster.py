"""A connection to a Ray cluster, and which of its nodes an agent belongs on."""

import contextlib
import logging
import math
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray._private import worker as ray_worker

from study.run.executors import Request
from study.run.hardware import available_cores, gpu_count
from trainer.errors import UserError

STORE_BYTES = 80 << 20  # weights pass through it, one file at a time
TEMPORARY = Path("/tmp")  # paths of sockets have 107 characters at most, so not $TMPDIR
ANSWER_SECONDS = 5.0  # in which whatever is at an address must take a connection


@dataclass(frozen=True)
class NodeShare:
    """What of a node an agent takes: all of its CPUs that are wanted, or one GPU."""

    key: str  # the node's id, and which of its GPUs
    node_id: str
    name: str
    slots: int
    threads: int
    cpus: float
    gpus: float = 0.0


class Connection:
    """This process's connection to Ray.

    Args:
        address: the cluster's; None: Ray is started on this machine, for this run alone.
    """

    def __init__(self, address: str | None) -> None:
        if address is not None and address.startswith("ray://"):
            raise UserError(
                f"ray_address = {address!r}: give HOST:PORT or auto, on a node of the cluster"
            )
        self.address = address
        self.folder: str | None = None  # Ray's own, where it was started here
        self.opened = False

    def open(self) -> None:
        """Connect, unless this process is connected already.

        Raises:
            UserError: no cluster is there, or this machine is none of its nodes.
        """
        if not ray.is_initialized():
            self._check_address()
            os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else it warns
            vars(ray_worker)["print_to_stdstream"] = _keep_quiet
            with _signals_kept():
                try:
                    ray.init(log_to_driver=False, logging_level=logging.ERROR, **self._where())
                except (OSError, RuntimeError, ValueError) as error:
                    words = " ".join(str(error).split())
                    raise UserError(f"ray_address = {self.address!r}: {words}") from error
            self.opened = True
        self.host: str = ray.util.get_node_ip_address()

    def _where(self) -> dict[str, Any]:
        if self.address is not None:
            return {"address": self.address}
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        self.folder = tempfile.mkdtemp(prefix="ray-", dir=TEMPORARY)
        return {
            "address": "local",  # never a stranger's cluster that runs here
            "num_cpus": available_cores(),  # Ray may see those of the whole host
            "num_gpus": gpu_count(),
            "object_store_memory": STORE_BYTES,
            "include_dashboard": False,
            "_temp_dir": self.folder,
        }

    def _check_address(self) -> None:
        """Refuse at once where nobody answers: Ray would try for a minute."""
        host, colon, port = (self.address or "").rpartition(":")
        if not colon or not port.isdecimal():
            if self.address in (None, "auto"):
                return
            raise UserError(f"ray_address = {self.address!r}: give HOST:PORT or auto")
        try:
            socket.create_connection((host, int(port)), ANSWER_SECONDS).close()
        except (OSError, OverflowError) as error:
            raise UserError(f"ray_address = {self.address!r}: nobody answers: {error}") from error

    def kind(self, request: Request) -> str:
        """Return the kind of device that all of a run's trainings use, `cpu` or `cuda`.

        Raises:
            UserError: the cluster has no GPU, or a bank's size on one was left open.
        """
        gpus = any(node["Resources"].get("GPU") for node in _alive())
        kind = ("cuda" if gpus else "cpu") if request.device == "auto" else request.device
        if kind == "cuda" and not gpus:
            raise UserError(f"device = {request.device!r}: no node of the cluster has a GPU")
        if kind == "cuda" and request.bank is None:
            raise UserError("bank = 'auto': is not measured on a cluster's GPUs; give a number")
        return kind

    def lacking(self, kind: str) -> str:
        """Say what the cluster does not have, where no node answers."""
        free = ray.available_resources().get("CPU" if kind == "cpu" else "GPU", 0)
        what = "CPUs" if kind == "cpu" else "GPUs"
        return f"no node of the cluster has answered; it has {free:g} free {what}"

    def close(self) -> None:
        """Disconnect; a cluster that was started here ends."""
        if self.opened:
            with _signals_kept():
                ray.shutdown()
            self.opened = False
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None


def _keep_quiet(*_: object, **__: object) -> None:
    """Print nothing: Ray tells on standard output, where results go, how its processes end."""


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Let signals be handled as before: Ray takes SIGTERM for itself."""
    names = (signal.SIGINT, signal.SIGTERM)
    before = {name: signal.getsignal(name) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            if handler is not None and signal.getsignal(name) is not handler:
                signal.signal(name, handler)


def _alive() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def shares(kind: str, request: Request) -> list[NodeShare]:
    """Return the agents that the nodes which are there now should have."""
    return [
        share
        for node in _alive()
        for share in (_of_gpus(node, request) if kind == "cuda" else _of_cpus(node, request))
    ]


def _of_cpus(node: dict[str, Any], request: Request) -> list[NodeShare]:
    """One agent for all CPUs, where a node offers any."""
    cpus = math.floor(node["Resources"].get("CPU", 0))
    threads = request.threads or 1
    slots = min(max(1, cpus // threads), request.workers or cpus, request.trials)
    if not cpus:
        return []
    taken = min(cpus, slots * threads)
    return [NodeShare(node["NodeID"], node["NodeID"], _name(node), slots, threads, taken)]


def _of_gpus(node: dict[str, Any], request: Request) -> list[NodeShare]:
    """One agent for each GPU: fractions that are not 1/n would be shared unevenly."""
    gpus = math.floor(node["Resources"].get("GPU", 0))
    cpus = node["Resources"].get("CPU", 0) / max(gpus, 1)
    slots, threads = request.workers or 1, max(1, math.floor(cpus))
    node_id, name = node["NodeID"], _name(node)
    taken = min(1.0, math.floor(cpus))
    return [
        NodeShare(f"{node_id} {i}", node_id, f"{name}, GPU {i}", slots, threads, taken, 1.0)
        for i in range(gpus)
    ]


def _name(node: dict[str, Any]) -> str:
    return f"node {node['NodeManagerAddress']} ({node['NodeID'][:6]})"
