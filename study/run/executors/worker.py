"""The work itself, in whichever process it happens: load data once, measure and train banks."""

import dataclasses
import errno
import platform
import traceback
from collections.abc import Sequence

import torch

from study.run.executors import Failure, Job, WorkerSpec
from trainer import checkpoint, data, device
from trainer.config import TrainConfig
from trainer.cost import measure
from trainer.errors import UserError
from trainer.results import Cost, Result
from trainer.resume import ResumePoints
from trainer.train import Watch, train


class Worker:
    """Trains jobs on one device. The data set is read once.

    Raises:
        UserError: there is no such data or device.
    """

    def __init__(self, spec: WorkerSpec) -> None:
        self.device = device.resolve(spec.device)
        device.prepare_process(spec.threads)
        images = data.load(spec.dataset, spec.data_dir)
        self.description = {
            "dataset": images.describe(),
            "device": device.describe(self.device),
            # torch's own TorchVersion would load torch where it is unpickled.
            "versions": {"python": platform.python_version(), "torch": str(torch.__version__)},
        }
        self.data = images.to(self.device)
        self.resume_seconds = spec.resume_seconds
        # On another kind of device, or with another torch, the course would not be the same.
        self.same = {
            "dataset": images.sha256,
            "device": self.device.type,
            "torch": str(torch.__version__),
        }

    def measure(self, configs: Sequence[TrainConfig]) -> list[Cost]:
        """Return what each config will cost."""
        return [measure(config, self.data, self.device) for config in configs]

    def train(self, job: Job, on_epoch: Watch) -> list[Result]:
        """Train a job, write its checkpoints, return its results without weights and images."""
        resume = None
        if job.resume_points:
            resume = ResumePoints(job.resume_points, self.same, self.resume_seconds)
        results = train(
            job.configs, self.data, on_epoch=on_epoch, device=self.device, resume=resume
        )
        for config, result, path in zip(job.configs, results, job.checkpoints, strict=True):
            if result.state is not None and result.test_accuracy is not None:
                about = {
                    "config": config.to_dict(),
                    "result": result.to_dict(),
                    "dataset": self.description["dataset"],
                    "confused": result.misclassified,
                }
                checkpoint.write(path, result.state, about)
        return [dataclasses.replace(result, state=None, misclassified=None) for result in results]


def failure_of(error: Exception) -> Failure:
    """Say in one line why a job failed, and of what kind that is."""
    if isinstance(error, UserError):
        return Failure("user", str(error))
    first_line = (str(error).splitlines() or [""])[0]
    reason = f"{type(error).__name__}: {first_line}"
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return Failure("memory", reason)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Failure("disk", reason)
    if isinstance(error, OSError):
        return Failure("infrastructure", reason)
    last = traceback.extract_tb(error.__traceback__)[-1]
    return Failure("error", f"{reason} (in {last.name}, line {last.lineno})")
