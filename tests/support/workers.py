"""Worker processes in which something goes wrong once, as on a GPU that faults or hangs.

They are pickled by name and run in a child: what goes wrong is told by the environment's folder.
"""

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from study.run.executors import Failure, WorkerSpec, local, worker
from study.run.executors.local import LocalExecutor

FOLDER = "FMNIST_TEST_FOLDER"
serve = local._serve


def _once(name: str) -> bool:
    """Whether this is the first process that comes here."""
    try:
        Path(os.environ[FOLDER], name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def serve_with_a_fault(spec: Any, pipe: Any) -> None:
    """Be a worker whose first training ends in a fault of CUDA, which stays for its life."""
    train = worker.Worker.train

    def faulty(self: worker.Worker, job: Any, on_epoch: Any) -> Any:
        if _once("fault") or self.device.type == "cuda":
            self.device = torch.device("cuda", 0)
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
        return train(self, job, on_epoch)

    worker.Worker.train = faulty  # type: ignore[method-assign]
    serve(spec, pipe)


def serve_with_a_hanging_device(spec: Any, pipe: Any) -> None:
    """Be a worker whose first training never gets on, though the process lives."""
    train = worker.Worker.train

    def hanging(self: worker.Worker, job: Any, on_epoch: Any) -> Any:
        if _once("hang"):
            time.sleep(600)
        return train(self, job, on_epoch)

    worker.Worker.train = hanging  # type: ignore[method-assign]
    serve(spec, pipe)


def serve_without_memory(spec: Any, pipe: Any) -> None:
    """Be a worker whose first training finds no memory."""
    train = worker.Worker.train

    def full(self: worker.Worker, job: Any, on_epoch: Any) -> Any:
        if _once("memory"):
            raise MemoryError("no room")
        return train(self, job, on_epoch)

    worker.Worker.train = full  # type: ignore[method-assign]
    serve(spec, pipe)


class ImpatientExecutor(LocalExecutor):
    """One that takes a worker for dead after a few seconds, and is as patient as any after that.

    So a worker that only waits for the processor is not taken for dead too.
    """

    def _replace(self, process: Any, failure: Failure) -> None:
        super()._replace(process, failure)
        self.silence, self.stall = local.SILENCE_SECONDS, local.STALL_SECONDS


def saving(spec: WorkerSpec) -> WorkerSpec:
    """Return a worker that leaves a resume point after every epoch."""
    return replace(spec, resume_seconds=0.0)
