"""`--executor ray`: the nodes of a Ray cluster, each with an agent that drives workers there.

Ray starts agents and carries calls; who trains what, and what is tried again, is decided here and
in the coordinator (`max_restarts` and `max_task_retries` are 0). Each agent has one call under way:
orders go in, events come out. Nodes that join get work; of a lost one every job fails as
`infrastructure`, and nothing that it may still say is listened to.
"""

import contextlib
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from study.run.executors import Event, Failure, Job, Request, Watcher, describe_all, drive
from study.run.executors.lifeline import Lifelines
from study.run.executors.ray_agent import Agent, NoData, Place, without_callbacks
from study.run.executors.ray_cluster import Connection, NodeShare, shares
from study.run.executors.transfer import Content, fetch_weights, packed
from study.run.executors.worker import failure_of
from trainer import files
from trainer.config import TrainConfig
from trainer.errors import UserError
from trainer.results import Cost

LOOK_SECONDS = 1.0  # between two looks at which nodes there are
SILENCE_SECONDS = 120.0  # of an agent: then its node hangs
HEARTBEAT_SECONDS = 5.0  # without a look: then this process itself stood still
GRACE_SECONDS = 2.0  # between the end of a lifeline and Ray's word for what happened
NOBODY_SECONDS = 600.0  # without any node, then there is no point in waiting on
FIRST_SECONDS = 120.0  # until a node has answered
OTHERS_SECONDS = 10.0  # that the first one waits for others
MAX_FAILED_STARTS = 10  # of agents on a node, in a row


@dataclass
class _Node:
    """The owner's side of an agent."""

    share: NodeShare
    actor: Any
    token: str
    call: Any  # the object that its present call will return; none other is under way
    described: dict[str, Any] | None = None  # None: it starts
    sent_data: bool = False
    orders: list[tuple[int, Any]] = field(default_factory=list)
    jobs: dict[int, Job] = field(default_factory=dict)
    heard: float = field(default_factory=time.monotonic)
    ended: float | None = None  # when its lifeline did

    @property
    def free(self) -> int:
        """How many more jobs it can take."""
        return self.share.slots - len(self.jobs) if self.described else 0


class RayExecutor:
    """Workers on the nodes of a Ray cluster.

    Args:
        request: what the run asks for; without an address Ray runs on this machine alone.
        agent: what runs on each node.
        silence: seconds after which a node that says nothing is taken for lost.
    """

    def __init__(
        self, request: Request, agent: type[Agent] = Agent, silence: float = SILENCE_SECONDS
    ) -> None:
        self.request, self.agent, self.silence = request, agent, silence
        self.connection = Connection(request.address)
        self.lifelines = Lifelines()
        self.nodes: dict[str, _Node] = {}  # by the key of their share
        self.failed_starts: Counter[str] = Counter()  # in a row
        self.refusal = ""  # why the last agent did not start
        self.number = 0  # of the last job: no two attempts have the same
        self.looked = float("-inf")
        self.somebody = time.monotonic()  # when there last was a node
        self.like: dict[str, Any] | None = None  # what every node's workers must find
        self.data: tuple[list[str], list[Any]] | None = (
            None  # the data set's files, where nodes have asked for them
        )

    @property
    def slots(self) -> int:
        """Workers that are there now."""
        return sum(node.share.slots for node in self.nodes.values() if node.described)

    def start(self) -> dict[str, Any]:
        """Connect, and wait for the first nodes.

        Raises:
            UserError: no cluster answers, or no node of it can work.
        """
        self.connection.open()
        self.lifelines.listen(self.connection.host)
        self.actor_class = ray.remote(max_restarts=0, max_task_retries=0)(self.agent)
        self.kind = self.connection.kind(self.request)
        began, first = time.monotonic(), None
        while first is None or self._is_worth_waiting(first):
            for _ in self.events(0.2):
                raise AssertionError("there are no jobs yet")
            if first is None and self.slots:
                first = time.monotonic()
            if not self.nodes and max(self.failed_starts.values(), default=0) >= MAX_FAILED_STARTS:
                raise UserError(self.refusal)
            if first is None and time.monotonic() - began > FIRST_SECONDS:
                raise UserError(f"executor = 'ray': {self.connection.lacking(self.kind)}")
        return describe_all([node.described for node in self.nodes.values() if node.described])

    def _is_worth_waiting(self, first: float) -> bool:
        starting = any(node.described is None for node in self.nodes.values())
        return starting and time.monotonic() - first < OTHERS_SECONDS

    def measure(self, configs: Sequence[TrainConfig]) -> list[Cost]:
        """Return what each config will cost, all measured on one node, so that they compare.

        Raises:
            UserError: a config cannot be trained there.
        """
        while True:
            node = next((node for node in self.nodes.values() if node.described), None)
            if node is None:
                raise UserError("executor = 'ray': every node of the cluster was lost")
            try:
                if node.call is not None:
                    ray.get(node.call)  # nothing happens there: it has no job
                node.call = None
                costs: list[Cost] = ray.get(node.actor.measure.remote(list(configs)))
            except UserError as error:
                raise UserError(_line(error)) from error
            except RayError as error:
                list(self._lose(node, _line(error)))
            else:
                return costs

    def run(self, watcher: Watcher) -> None:
        """Train the watcher's jobs until there are none.

        Raises:
            UserError: no node is left, and none comes.
        """
        drive(self, watcher)

    @property
    def idle(self) -> int:
        """How many workers wait for something to do."""
        return sum(max(0, node.free) for node in self.nodes.values())

    @property
    def settled(self) -> bool:
        """Whether nothing is in training and a node is ready."""
        return self.idle > 0 and not any(node.jobs for node in self.nodes.values())

    def give(self, job: Job) -> None:
        """Have a job trained by the node with the most idle workers."""
        node = max(self.nodes.values(), key=lambda node: node.free)
        self.number += 1
        node.jobs[self.number] = job
        node.orders.append((self.number, packed(self.number, job)))

    def answer(self, job: Job, stopped: Collection[int]) -> None:
        """Say which members stop."""
        for node in self.nodes.values():
            node.orders += [(number, stopped) for number, own in node.jobs.items() if own is job]

    def events(self, seconds: float) -> Iterator[Event]:
        """Wait so long at most for what happens to jobs, to nodes that come and to those that go.

        Raises:
            UserError: no node is left, and none comes.
        """
        self._look_for_nodes()
        for node in self.nodes.values():
            if node.call is None:
                node.call, node.orders = node.actor.exchange.remote(node.orders), []
                node.heard = time.monotonic()
        calls = {node.call: node for node in self.nodes.values()}
        if not calls:
            time.sleep(seconds)
            return
        ready, rest = ray.wait(list(calls), timeout=seconds)
        more = ray.wait(rest, num_returns=len(rest), timeout=0)[0] if ready and rest else []
        for call in (*ready, *more):
            yield from self._returned(calls[call])
        yield from self._lost()

    def _returned(self, node: _Node) -> Iterator[Event]:
        call, node.call = node.call, None
        try:
            answer = ray.get(call)
        except (NoData, UserError, RayError) as error:
            if isinstance(error, NoData) and not node.sent_data:
                names, contents = self._data()
                node.call, node.sent_data = node.actor.start.remote(names, *contents), True
            elif isinstance(error, (NoData, UserError)) and node.described is None:
                self._refuse(node, _line(error))
            else:
                yield from self._lose(node, _line(error))
            return
        if node.described is None:
            self._admit(node, answer)
            return
        for number, kind, payload in answer:
            yield from self._reported(node, number, kind, payload)

    def _reported(self, node: _Node, number: int, kind: str, payload: Any) -> Iterator[Event]:
        job = node.jobs.get(number)
        if job is None:  # of an attempt that is over
            return
        if kind == "resume":
            with contextlib.suppress(OSError):  # the training itself is not at fault
                for path, content in zip(job.resume_points, payload, strict=True):
                    content.write(path)
            return
        if kind == "results":
            payload, names = payload
            try:
                fetch_weights(job, names, lambda name: ray.get(node.actor.read.remote(name)))
            except RayError as error:
                yield from self._lose(node, _line(error))
                return
            except OSError as error:
                kind, payload = "failed", failure_of(error)
        if kind != "epoch":
            del node.jobs[number]
            node.orders.append((number, None))
        yield job, kind, payload

    def _admit(self, node: _Node, described: dict[str, Any]) -> None:
        """Let a node work that has the same program and the same data as the others."""
        found = {**described["versions"], "data set": described["dataset"]["sha256"]}
        like = self.like or {**found, "fmnist-study": version("fmnist-study")}
        other = [
            f"{key} {found.get(key)}, not {like[key]}" for key in like if found[key] != like[key]
        ]
        if other:
            self._refuse(node, "; ".join(other))
            return
        node.described, self.like = described, like
        del self.failed_starts[node.share.key]
        self.request.tell(f"{node.share.name}: {node.share.slots} workers")

    def _refuse(self, node: _Node, reason: str) -> None:
        """Do without a node for good."""
        self.failed_starts[node.share.key] = MAX_FAILED_STARTS
        self.refusal = f"{node.share.name} cannot be used: {reason}"
        self.request.tell(self.refusal)
        self._drop(node)

    def _data(self) -> tuple[list[str], list[Any]]:
        """Return the names of the data set's files, and where a node without them gets them."""
        if self.data is None:
            folder = self.request.data_dir or files.default_data_dir()
            paths = files.verified_files(self.request.dataset, folder, download=False)
            names = [path.name for path in paths]
            self.data = names, [ray.put(Content.of(path)) for path in paths]
        return self.data

    def _look_for_nodes(self) -> None:
        """Start agents where there are none yet.

        Raises:
            UserError: no node is left, and none comes.
        """
        now = time.monotonic()
        if now - self.looked > HEARTBEAT_SECONDS:  # this process was stopped or waited itself
            for node in self.nodes.values():
                node.heard = now
        if self.nodes:
            self.somebody = now
        elif now - self.somebody > NOBODY_SECONDS:
            raise UserError(f"executor = 'ray': {self.connection.lacking(self.kind)}")
        if now - self.looked < LOOK_SECONDS:
            return
        self.looked = now
        for share in shares(self.kind, self.request):
            if share.key not in self.nodes and self.failed_starts[share.key] < MAX_FAILED_STARTS:
                self.nodes[share.key] = self._started(share)

    def _started(self, share: NodeShare) -> _Node:
        token = self.lifelines.token()
        place = Place(
            share.name, share.slots, share.threads, self.kind, self.lifelines.address, token
        )
        actor: Any = self.actor_class.options(
            num_cpus=share.cpus,
            num_gpus=share.gpus,
            scheduling_strategy=NodeAffinitySchedulingStrategy(share.node_id, soft=False),
        ).remote(without_callbacks(self.request), place)
        return _Node(share, actor, token, actor.start.remote())

    def _lost(self) -> Iterator[Event]:
        """Give nodes up whose agents have ended or hang, before Ray has noticed it."""
        now = time.monotonic()
        ended = self.lifelines.ended()
        for node in list(self.nodes.values()):
            if node.token in ended:
                node.ended = node.ended or now
            if node.ended and now - node.ended > GRACE_SECONDS:
                yield from self._lose(node, "its agent has ended")
            elif node.described and now - node.heard > self.silence:
                yield from self._lose(node, f"it said nothing for {self.silence:.0f} s")

    def _lose(self, node: _Node, reason: str) -> Iterator[Event]:
        """Do without an agent; its jobs fail, and whatever it may still send is not read."""
        jobs, node.jobs = list(node.jobs.values()), {}
        if node.described is None:
            self.failed_starts[node.share.key] += 1
            self.refusal = f"{node.share.name}: {reason}"
        self._drop(node)
        self.request.tell(f"{node.share.name} was lost: {reason}")
        for job in jobs:
            yield job, "failed", Failure("infrastructure", f"{node.share.name} was lost: {reason}")

    def _drop(self, node: _Node) -> None:
        del self.nodes[node.share.key]
        self.lifelines.cut(node.token)
        with contextlib.suppress(RayError, ValueError):
            ray.kill(node.actor, no_restart=True)

    def close(self) -> None:
        """End the agents and their workers at once."""
        self.lifelines.close()
        if ray.is_initialized():
            for node in self.nodes.values():
                with contextlib.suppress(RayError, ValueError):
                    ray.kill(node.actor, no_restart=True)
        self.nodes = {}
        self.connection.close()


def _line(error: BaseException) -> str:
    """Return one line of what Ray wraps: the first of the error that was raised on the node."""
    words = str(getattr(error, "cause", None) or error).strip()
    lines = [line for line in words.splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def executor_for(request: Request) -> RayExecutor:
    """Return the executor `ray`, not started."""
    return RayExecutor(request)


vars(executor_for)["remote"] = True  # the nodes' devices count
