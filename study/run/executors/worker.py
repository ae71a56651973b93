"""The work itself, in whichever process it happens: load data once, measure and train banks."""

import dataclasses
import errno
import gc
import platform
import re
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from study.run.executors import Failure, Job, WorkerSpec
from study.run.executors.foreign import ForeignTraining, TrainingFailed
from trainer import checkpoint, convolutions, data, device, user_code
from trainer.bank_cache import BankCache
from trainer.config import TrainConfig
from trainer.cost import measure
from trainer.errors import UserError
from trainer.results import Cost, Result, State
from trainer.resume import ResumePoints
from trainer.train import Watch, train


class Worker:
    """Trains jobs on one device. The data set is read once.

    Raises:
        UserError: there is no such data or device.
    """

    def __init__(self, spec: WorkerSpec) -> None:
        self.device = device.resolve(spec.device)
        device.use(self.device)  # before anything lies there
        device.prepare_process(spec.threads)
        convolutions.use(spec.convolutions)
        user_code.look_in(spec.code.folders)
        for what, reference in spec.code.functions:
            user_code.load(what, reference)
        self.foreign: ForeignTraining | None = None
        if spec.code.command is not None:
            self._train_theirs(spec)
            return
        images = data.load(spec.dataset, spec.data_dir)
        self.description = {
            "dataset": images.describe(),
            "device": device.describe(self.device),
            **({"threads": torch.get_num_threads()} if self.device.type == "cpu" else {}),
            # torch's own TorchVersion would load torch where it is unpickled.
            "versions": {"python": platform.python_version(), "torch": str(torch.__version__)},
            "code": user_code.fingerprints(spec.code.functions),
        }
        self.data = images.to(self.device)
        self.banks = BankCache()
        self.resume_seconds = spec.resume_seconds
        # On another kind of device, or with another torch, the course would not be the same.
        self.same = {
            "dataset": images.sha256,
            "device": self.device.type,
            "torch": str(torch.__version__),
        }

        gc.collect()
        gc.freeze()  # what is loaded stays: collections after jobs need not look at it

    def _train_theirs(self, spec: WorkerSpec) -> None:
        """Have the user's trainings done here; of their data nothing is known but its name."""
        if spec.code.command:
            user_code.check_program(spec.code.command)
        self.foreign = ForeignTraining(spec.device, spec.threads)
        self.description = {
            "dataset": {"name": spec.dataset},
            "device": device.describe(self.device),
            "versions": {"python": platform.python_version()},
            "code": user_code.fingerprints(spec.code.functions, spec.code.command or ""),
        }

    def measure(self, configs: Sequence[TrainConfig]) -> list[Cost]:
        """Return what each config will cost."""
        try:
            return [measure(config, self.data, self.device) for config in configs]
        finally:
            gc.collect()

    def train(self, job: Job, on_epoch: Watch) -> list[Result]:
        """Train a job, write its checkpoints, return its results without weights and images."""
        if self.foreign is not None:
            return [self.foreign.train(config, on_epoch) for config in job.configs]
        resume = None
        if job.resume_points:
            resume = ResumePoints(job.resume_points, self.same, self.resume_seconds)
        try:
            results = train(
                job.configs,
                self.data,
                on_epoch=on_epoch,
                device=self.device,
                resume=resume,
                banks=self.banks,
            )
        finally:
            # A bank frees itself, but not what an exception, its traceback and its frames hold.
            gc.collect()
        for config, result, path in zip(job.configs, results, job.checkpoints, strict=True):
            if result.state is not None and result.test_accuracy is not None:
                about = {
                    "config": config.to_dict(),
                    "result": result.to_dict(),
                    "dataset": self.description["dataset"],
                    "confused": result.misclassified,
                }
                _write(path, result.state, about)
        return [dataclasses.replace(result, state=None, misclassified=None) for result in results]

    def is_broken_by(self, error: Exception) -> bool:
        """Whether this process can do no more work after what happened.

        A fault of CUDA stays with its process: every later call fails too. A capture that failed,
        be it for want of memory, leaves its stream and the allocator's pool in a state that nobody
        vouches for. On a GPU nothing but a user's mistake is worth the risk.
        """
        return self.device.type != "cpu" and not isinstance(error, UserError)


# How torch words what CUDA's libraries report. A library that got no memory says so in its own way.
_NO_MEMORY = re.compile(r"CUDA error: out of memory|\w+_STATUS_ALLOC_FAILED")
_FAULT = re.compile(r"CUDA error|CUDA driver error|CUDNN_STATUS_|cuDNN error|CUBLAS_STATUS_|cuBLAS")


def _write(path: Path, state: State, about: Mapping[str, Any]) -> None:
    """Write a checkpoint where nothing is yet: what is there is somebody's.

    Raises:
        OSError: it cannot be written, or is there; the error names the file.
    """
    for file in (path, path.with_suffix(".json")):
        if file.exists():
            raise FileExistsError(
                errno.EEXIST, "is there already, perhaps another run's", str(file)
            )
    try:
        checkpoint.write(path, state, about)
    except OSError as error:
        error.filename = error.filename or str(path)  # a write to an open file names none
        raise


def failure_of(error: Exception) -> Failure:
    """Say in one line why a job failed, and of what kind that is."""
    if isinstance(error, UserError):
        return Failure("user", str(error))
    if isinstance(error, TrainingFailed):
        return Failure("error", str(error))
    kind = _kind(error)
    first_line = (str(error).splitlines() or [""])[0]
    reason = f"{type(error).__name__}: {first_line}"
    if kind == "error":
        last = traceback.extract_tb(error.__traceback__)[-1]
        reason += f" ({user_code.where(error) or f'in {last.name}, line {last.lineno}'})"
    return Failure(kind, reason)


def _kind(error: Exception) -> str:
    runtime = isinstance(error, RuntimeError)
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return "memory"
    if runtime and _NO_MEMORY.search(str(error)):
        return "memory"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "disk"
    # The device's fault, not the config's: another process may do better.
    if isinstance(error, (OSError, torch.AcceleratorError)):
        return "infrastructure"
    return "infrastructure" if runtime and _FAULT.search(str(error)) else "error"
